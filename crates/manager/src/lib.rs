//! Library of the manager daemon: clusters, tasks, the scheduler and the backup workflow.

pub mod agent_client;
pub mod backup;
pub mod cluster;
mod command_line;
pub mod config;
mod health_runner;
pub mod hosts;
pub mod metrics;
pub mod rest;
mod run;
pub mod scheduler;
mod service_discovery;
mod state;
pub mod store;
mod tls;

pub use command_line::{command_line, main_with};
pub use common::secret::Secret;
pub use run::{Assembled, DaemonError, assemble, run};
pub use state::Manager;
