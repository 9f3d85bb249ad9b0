//! Backups: what they take, what they leave in a location, and what goes from there again.
//!
//! Decisions are pure functions from listed facts to plans (`units`, `dedup_plan`, `resume`, `retention`,
//! `purge_plan`); carrying them out is the work of the other modules. The manager never touches a location
//! itself: every byte goes through an agent.

pub mod dedup_plan;
pub mod delete;
pub mod list;
pub mod location;
pub mod locks;
pub mod properties;
pub mod purge;
pub mod purge_plan;
pub mod remote_dir;
pub mod resume;
pub mod retention;
pub mod tag;
pub mod units;
