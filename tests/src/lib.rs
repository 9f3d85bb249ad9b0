//! The simulated world that scenarios run in: a Scylla cluster and an object store.

pub mod cluster;
pub mod node;
pub mod sstable;
