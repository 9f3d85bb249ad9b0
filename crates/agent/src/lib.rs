//! `scylla-manager-agent`: runs beside each node, passes calls on to Scylla's REST API, and moves backup files
//! between the node's data directory and the object store.
//!
//! It knows nothing of tasks, runs or retention, and keeps nothing over a restart.

pub mod agent;
pub mod auth;
pub mod check_location;
pub mod cloud;
mod command_line;
pub mod config;
pub mod cpu;
mod debug;
pub mod io_priority;
pub mod jobs;
pub mod metrics;
pub mod node_info;
pub mod rclone;
pub mod region;
mod request_log;
pub mod scylla_api;
pub mod scylla_proxy;
mod server;
pub mod size_suffix;
pub mod startup;
pub mod storage;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod transfer;
pub mod upstream;

pub use command_line::{command_line, main_with};
