//! Moves bytes between stores under one byte budget and one rate limit (design, transfer engine).
//!
//! One engine serves uploads, downloads and copies of single files. It knows when two files are equal, how to keep
//! an old version, and what to do when one of many files fails; how a store sends bytes is the store's business.

mod ahead;
mod destination;
mod digest;
mod directory;
mod equality;
mod error;
mod lane;
mod order;
mod parts;
pub mod rate_limit;
mod send;
mod setting;
mod single;
mod survey;
mod window;
mod worker;

use std::sync::Arc;

pub use error::TransferError;
pub use order::{CopyPaths, DirTransfer};
pub use setting::{InvalidTransfers, Transfers};

use crate::config::Config;
use crate::storage::buffer::BufferPool;
use rate_limit::RateLimits;
use window::LatestWidth;

/// Small files on the network per transfer: eight or nine components of an SSTable are not to wait for one another.
const SMALL_PER_TRANSFER: usize = 16;
/// Small files on the network at most, whatever the setting says.
const MAX_SMALL: usize = 256;

/// Small files on the network for that many transfers.
fn small_at_once(transfers: usize) -> usize {
    SMALL_PER_TRANSFER.saturating_mul(transfers).min(MAX_SMALL)
}

/// Moves files.
#[derive(Debug)]
pub struct Engine {
    buffers: Arc<BufferPool>,
    limits: Arc<RateLimits>,
    transfers: Transfers,
    parts_at_once: usize,
    latest_width: Arc<LatestWidth>,
    immutable: bool,
}

impl Engine {
    /// An engine with the limits of the configuration. `limits` are those that the stores obey.
    pub fn new(config: &Config, limits: Arc<RateLimits>) -> Arc<Self> {
        Arc::new(Self {
            buffers: BufferPool::new(config.transfer_memory),
            limits,
            transfers: Transfers::new(config.rclone.transfers),
            parts_at_once: config.s3.upload_concurrency.max(1) as usize,
            latest_width: Arc::default(),
            immutable: config.rclone.immutable,
        })
    }

    /// The rate limits of the process (`core/bwlimit`).
    pub fn limits(&self) -> &Arc<RateLimits> {
        &self.limits
    }

    /// The number of transfers of the process (`core/transfers`).
    pub fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    /// Gives memory of idle buffers back (`free_os_memory`).
    pub fn free_memory(&self) {
        self.buffers.shrink();
    }
}
