//! `testbed exec`: this executable as agent, manager or `sctool`, so that nothing has to be built beforehand.

use std::ffi::OsString;
use std::io::{BufWriter, stderr, stdout};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;

/// One of the three programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgramName {
    /// `scylla-manager-agent`
    Agent,
    /// `scylla-manager`
    Manager,
    /// `sctool`
    Sctool,
}

/// Runs a program with its own arguments to its end.
///
/// # Errors
/// The runtime cannot be started, or an argument is not UTF-8.
pub fn run(program: ProgramName, arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    if program != ProgramName::Sctool {
        common::memory::limit_heaps().context("start again with a limit on heaps")?;
    }
    match program {
        ProgramName::Agent => Ok(scylla_manager_agent::main_with(arguments)),
        ProgramName::Manager => Ok(scylla_manager::main_with(arguments)),
        ProgramName::Sctool => sctool_main(arguments),
    }
}

fn sctool_main(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let text = |argument: OsString| {
        argument.into_string().map_err(|argument| anyhow::anyhow!("argument {argument:?} is not UTF-8"))
    };
    let arguments = arguments.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let env = sctool::env::Env::of_process();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let (mut out, mut err) = (BufWriter::new(stdout()), stderr());
    Ok(runtime.block_on(sctool::run(&arguments, &env, &mut out, &mut err)).into())
}
