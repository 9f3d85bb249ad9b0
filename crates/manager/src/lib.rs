//! Library of the manager daemon: clusters, tasks, the scheduler and the backup workflow.

pub mod agent_client;
pub mod cluster;
pub mod config;
pub mod hosts;
pub mod rest;
pub mod scheduler;
mod secret;
mod state;
pub mod store;

pub use secret::Secret;
pub use state::Manager;
