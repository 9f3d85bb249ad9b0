//! The small languages of flag values: dates, cron, labels, patterns, task and run references (spec/sctool.md 3).

pub mod cron;
pub mod cron_text;
pub mod date;
pub mod label;
pub mod mapping;
pub mod method;
pub mod pattern;
pub mod run_ref;
pub mod task_ref;
