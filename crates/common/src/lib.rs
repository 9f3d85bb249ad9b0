//! The vocabulary and the contracts that `sctool`, `scylla-manager` and `scylla-manager-agent` share.
//!
//! This crate starts no runtime, has no database and takes no decisions. Text becomes a type here, once,
//! at the border; wire types stand beside the endpoint that carries them.

pub mod api;
pub mod config;
pub mod cron;
pub mod error;
pub mod filter;
pub mod format;
pub mod http_client;
pub mod ids;
pub mod listener;
pub mod location;
pub mod logging;
pub mod memory;
pub mod retry;
pub mod secret;
pub mod snapshot_tag;
pub mod task;
pub mod tls;
pub mod units;
pub mod version;
