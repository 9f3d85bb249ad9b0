//! `scylla-manager-agent`, see [`scylla_manager_agent::main_with`].

use std::process::ExitCode;

fn main() -> ExitCode {
    scylla_manager_agent::main_with(std::env::args_os().skip(1).collect())
}
