//! Scenarios: a whole installation each, one story, and at the end the invariants of the bucket.

mod adhoc;
mod bad_input;
mod bad_locations;
mod crashes;
mod deleting;
mod documents;
mod dry_run;
mod first_backup;
mod guide_deduplication;
mod guide_locations;
mod guide_parallel;
mod guide_pausing;
mod guide_retention;
mod guide_selection;
mod guide_throttling;
mod interruptions;
mod listing;
mod nodes;
mod output;
mod same_names;
mod schedules;
mod schema;
mod support;
mod suspending;
mod unreliable_bucket;
