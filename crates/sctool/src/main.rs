//! `sctool`: see the library of this package.

use std::io::{BufWriter, stderr, stdout};
use std::process::ExitCode;

use anyhow::Context as _;

fn main() -> anyhow::Result<ExitCode> {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.into_string().map_err(|arg| anyhow::anyhow!("argument {arg:?} is not UTF-8")))
        .collect::<Result<_, _>>()?;
    let env = sctool::env::Env::of_process();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start runtime")?;
    let (mut out, mut err) = (BufWriter::new(stdout()), stderr());
    let exit = runtime.block_on(sctool::run(&args, &env, &mut out, &mut err));
    Ok(exit.into())
}
