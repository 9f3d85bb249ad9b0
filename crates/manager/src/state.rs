//! What everything in the daemon shares.

use crate::config::Config;
use crate::scheduler::Clock;
use crate::store::Store;

/// The parts of the manager, built once by [`crate::start`]; handlers and tasks hold it in an `Arc`.
pub struct Manager {
    /// Checked configuration.
    pub config: Config,
    /// State.
    pub store: Store,
    /// Time of day.
    pub clock: Clock,
}
