//! `version` and `completion`.

use clap_complete::Shell;
use common::api::manager::GetVersion;
use common::version::VERSION;
use serde_json::json;

use crate::cli::shared::OutputFormat;
use crate::cli::{VersionFlags, tree};
use crate::context::Ctx;
use crate::error::CliError;
use crate::render;

pub async fn version(ctx: &mut Ctx<'_>, flags: VersionFlags) -> Result<(), CliError> {
    if flags.output.format() == OutputFormat::Table {
        // Before the request, so that it is there even if no server is.
        ctx.print(&render::version::client(VERSION))?;
    }
    let server = ctx.call::<GetVersion>(&[], &()).await?.version;
    ctx.show(
        flags.output.format(),
        |_| render::version::server(&server),
        || json!({ "client": VERSION, "server": server }),
    )
}

pub fn completion(ctx: &mut Ctx<'_>, shell: &str) -> Result<(), CliError> {
    let generator = match shell {
        "bash" => Shell::Bash,
        "fish" => Shell::Fish,
        _ => Shell::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut tree(), "sctool", &mut script);
    ctx.print(&String::from_utf8_lossy(&script))
}
