//! A simulated Scylla cluster and S3 server, and everything that runs on them: scenarios, demo, benchmarks.

pub mod bench_upload;
pub mod cluster;
pub mod command;
pub mod harness;
pub mod invariants;
pub mod node;
pub mod s3;
pub mod sstable;
