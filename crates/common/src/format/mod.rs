//! The backup format and nothing else (spec backup-format.md 1 and 2).
//!
//! Pure: names and bytes in, values out. Nothing here lists, reads or deletes anything, and nothing here
//! trusts what it reads: a bucket is input like any other.

pub mod manifest;
pub mod paths;
pub mod schema;
pub mod sstable;
pub mod versioned;
