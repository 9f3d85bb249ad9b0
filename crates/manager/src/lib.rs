//! Library of the manager daemon: clusters, tasks, the scheduler and the backup workflow.

pub mod scheduler;
mod secret;
pub mod store;

pub use secret::Secret;
