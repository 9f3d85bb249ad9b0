//! When things run: triggers, windows, retries, and the loop that starts and ends runs.
//!
//! The pure parts ([`trigger`], [`window`], [`retry`], [`plan`]) get the time as an argument. The
//! [`driver`] owns every run and is the only writer of task and run statuses, so that two writes of one
//! task can never cross. What a task *does* is behind [`Runner`]: the scheduler knows nothing of backups.

pub mod clock;
mod commands;
pub mod driver;
mod entry;
pub mod execute;
pub mod handle;
mod load;
pub mod metrics;
pub mod plan;
pub mod policy;
pub mod retry;
pub mod runner;
pub mod schedule;
pub mod stop;
pub mod suspend;
pub mod suspend_task;
pub mod trigger;
pub mod window;

#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use commands::RESUME_TASK;
pub use driver::{Driver, HEALTH_CHECK_RUN};
pub use handle::{Planned, Scheduler, SchedulerError, Suspension, TaskKey, TaskSpec};
pub use load::load;
pub use metrics::SchedulerMetrics;
pub use runner::{Properties, RunContext, RunError, Runner, Runners};
pub use stop::{StopReason, StopSignal};
pub use suspend::{ResumeOptions, SuspendOptions};
pub use suspend_task::SuspendRunner;
