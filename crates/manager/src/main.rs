//! `scylla-manager`, see [`scylla_manager::main_with`].

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = common::memory::limit_heaps() {
        eprintln!("WARNING: memory may grow more than it should: {error}");
    }
    scylla_manager::main_with(std::env::args_os().skip(1).collect())
}
