//! The commands of the `testbed` executable.

pub mod admin;
pub mod bench_control;
pub mod bench_scale;
pub mod bench_throttling;
pub mod demo;
pub mod exec;
pub mod manual;
pub(crate) mod measure;
pub mod up;
