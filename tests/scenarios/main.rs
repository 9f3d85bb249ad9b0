//! Scenarios: a whole installation each, one story, and at the end the invariants of the bucket.

mod adhoc;
mod bad_input;
mod bad_locations;
mod crashes;
mod deleting;
mod documents;
mod dry_run;
mod first_backup;
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
