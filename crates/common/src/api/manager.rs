//! REST API v1 of the manager: wire types and endpoints (spec manager.md 2 and 3).

mod backup;
mod cluster;
mod endpoints;
mod task;
mod validate;

pub use backup::*;
pub use cluster::*;
pub use endpoints::*;
pub use task::*;
pub use validate::*;
