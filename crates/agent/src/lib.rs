//! `scylla-manager-agent`: runs beside each node, passes calls on to Scylla's REST API, and moves backup files
//! between the node's data directory and the object store.
//!
//! It knows nothing of tasks, runs or retention, and keeps nothing over a restart.

pub mod auth;
pub mod cloud;
pub mod config;
pub mod cpu;
pub mod jobs;
pub mod listener;
pub mod metrics;
pub mod scylla_api;
pub mod scylla_proxy;
pub mod size_suffix;
pub mod storage;
pub mod tls;
pub mod transfer;
pub mod upstream;
