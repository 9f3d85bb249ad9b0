//! `scylla-manager`, see [`scylla_manager::main_with`].

use std::process::ExitCode;

fn main() -> ExitCode {
    scylla_manager::main_with(std::env::args_os().skip(1).collect())
}
