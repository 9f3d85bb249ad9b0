//! The release that all three programs report.

/// Release of this build, e.g. `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
