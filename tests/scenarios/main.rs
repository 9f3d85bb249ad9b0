//! Scenarios: a whole installation each, one story, and at the end the invariants of the bucket.

mod bad_locations;
mod crashes;
mod deleting;
mod first_backup;
mod interruptions;
mod nodes;
mod same_names;
mod support;
mod unreliable_bucket;
