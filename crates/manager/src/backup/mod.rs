//! Backups: what they take, how they are made, what they leave in a location, and what goes from there again.
//!
//! [`workflow::backup`] reads like its documentation; one module per stage does the work. Decisions are pure
//! functions from listed facts to plans ([`units`], [`dedup_plan`], [`resume`], [`retention`], [`purge_plan`],
//! [`tag`]). The manager never touches a location itself: every byte goes through an agent.

pub mod access;
pub mod backups;
#[cfg(test)]
mod bucket_tests;
pub mod checksums;
pub mod continued;
pub mod dedup_plan;
pub mod deduplicate;
pub mod delete;
pub mod error;
pub mod file_lists;
pub mod index;
pub mod jobs;
pub mod list;
pub mod location;
pub mod locks;
pub mod progress;
pub mod properties;
pub mod publish;
pub mod purge;
pub mod purge_plan;
pub mod rate_limit;
pub mod remote_dir;
pub mod resume;
pub mod retain;
pub mod retention;
pub mod run;
pub mod runner;
pub mod schema;
pub mod seal;
pub mod snapshot;
pub mod staged;
pub mod stored_schema;
pub mod tag;
pub mod target;
#[cfg(test)]
pub(crate) mod testing;
pub mod units;
pub mod upload;
pub mod workflow;
#[cfg(test)]
mod year_tests;

pub use backups::Backups;
pub use error::BackupError;
pub use runner::BackupRunner;
