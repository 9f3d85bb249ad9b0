//! `testbed manual`: man pages, completion scripts and the command reference, all from what the programs say of themselves.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// Width of the help of the daemons in the reference; that of `sctool` is fixed by itself.
const WIDTH: usize = 110;

/// Shells, and the file that their packages look for.
const SHELLS: [(&str, &str); 3] = [("bash", "sctool.bash"), ("zsh", "_sctool"), ("fish", "sctool.fish")];

/// What to write.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = true)]
pub struct ManualOptions {
    /// Write man pages to `man` and completion scripts to `completion` below this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write the command reference to this file
    #[arg(long, value_name = "FILE")]
    commands: Option<PathBuf>,
}

/// Writes what was asked for.
///
/// # Errors
/// A file cannot be written, or a program does not print its help.
pub async fn run(options: ManualOptions) -> anyhow::Result<()> {
    if let Some(dir) = &options.out {
        write_man_pages(&dir.join("man"))?;
        write_completion(&dir.join("completion")).await?;
    }
    if let Some(file) = &options.commands {
        write(file, command_reference().await?.as_bytes())?;
    }
    Ok(())
}

fn write(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    std::fs::write(file, content).with_context(|| format!("write {}", file.display()))
}

/// A command of one of the programs, with the names on the way to it.
struct Page {
    path: Vec<String>,
    command: Command,
}

impl Page {
    /// `sctool-backup-list`
    fn name(&self) -> String {
        self.path.join("-")
    }
}

/// All commands that are shown to people, parents first.
fn pages(root: Command) -> Vec<Page> {
    fn collect(command: &Command, above: &[String], found: &mut Vec<Page>) {
        let path = [above, &[command.get_name().to_owned()]].concat();
        found.push(Page { path: path.clone(), command: command.clone() });
        command
            .get_subcommands()
            .filter(|child| !child.is_hide_set())
            .for_each(|child| collect(child, &path, found));
    }
    let mut found = Vec::new();
    collect(&root, &[], &mut found);
    found
}

fn programs() -> [Command; 3] {
    [sctool::command_line(), scylla_manager::command_line(), scylla_manager_agent::command_line()]
}

fn write_man_pages(dir: &Path) -> anyhow::Result<()> {
    for page in programs().into_iter().flat_map(pages) {
        write(&dir.join(format!("{}.1", page.name())), &man_page(&page)?)?;
    }
    Ok(())
}

fn man_page(page: &Page) -> anyhow::Result<Vec<u8>> {
    let command = page.command.clone().override_usage(usage(page)).name(page.name());
    let command = command.version(common::version::VERSION).disable_help_subcommand(true);
    let has_commands = command.get_subcommands().any(|child| !child.is_hide_set());
    let examples = command.get_after_help().map(ToString::to_string);
    let man = Man::new(command.after_help(clap::builder::StyledStr::new()))
        .manual("Scylla Manager")
        .source(format!("scylla-manager {}", common::version::VERSION));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if has_commands {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(examples) = examples {
        let mut roff = Roff::new();
        roff.control("SH", ["EXAMPLES"]).control("nf", []);
        let examples = examples.strip_prefix("Examples:\n").unwrap_or(&examples);
        for line in examples.trim_end().lines() {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        roff.control("fi", []);
        roff.to_writer(&mut text)?;
    }
    let mut also = Roff::new();
    also.control("SH", ["SEE ALSO"]).text([roman(see_also(page))]);
    also.to_writer(&mut text)?;
    Ok(text)
}

/// How the command is called, in one line.
fn usage(page: &Page) -> String {
    let path = page.path.join(" ");
    match page.command.get_overridden_usage() {
        Some(flags) => format!("{path} {flags}"),
        None if page.path[0] == "sctool" && page.command.is_subcommand_required_set() => {
            format!("{path} [command]")
        }
        None if page.path[0] == "sctool" => format!("{path} [flags]"),
        None => {
            let usage = page.command.clone().bin_name(path).render_usage().to_string();
            usage.trim_start_matches("Usage: ").to_owned()
        }
    }
}

/// The command above, or the other programs.
fn see_also(page: &Page) -> String {
    let names: Vec<String> = match page.path.split_last() {
        Some((_, above)) if !above.is_empty() => {
            let mut names = vec![above.join("-"), page.path[0].clone()];
            names.dedup();
            names
        }
        _ => programs().iter().map(|c| c.get_name().to_owned()).filter(|n| *n != page.path[0]).collect(),
    };
    names.iter().map(|name| format!("{name}(1)")).collect::<Vec<_>>().join(", ")
}

async fn write_completion(dir: &Path) -> anyhow::Result<()> {
    for (shell, file) in SHELLS {
        write(&dir.join(file), sctool_prints(&["completion", shell]).await?.as_bytes())?;
    }
    Ok(())
}

async fn sctool_prints(arguments: &[&str]) -> anyhow::Result<String> {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let env = sctool::env::Env::of_process();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = sctool::run(&arguments, &env, &mut out, &mut err).await;
    anyhow::ensure!(
        exit == sctool::Exit::Success,
        "sctool {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&err)
    );
    Ok(String::from_utf8(out)?)
}

const HEAD: &str = "\
# Commands

Every command of the three programs with its flags, as `--help` prints it. Made by

```sh
cargo run -p testbed -- manual --commands docs/commands.md
```

from the definitions of the command lines; a test compares. What `sctool` has no room for in its help is in [sctool.md](sctool.md).
";

/// The text of `docs/commands.md`.
///
/// # Errors
/// A program does not print its help.
pub async fn command_reference() -> anyhow::Result<String> {
    let mut text = HEAD.to_owned();
    for program in programs() {
        for page in pages(program) {
            let help = if page.path[0] == "sctool" {
                let mut arguments: Vec<&str> = page.path[1..].iter().map(String::as_str).collect();
                arguments.push("--help");
                sctool_prints(&arguments).await?
            } else {
                let mut command = page.command.clone().bin_name(page.path.join(" ")).term_width(WIDTH);
                command.render_long_help().to_string()
            };
            let level = if page.path.len() == 1 { "##" } else { "###" };
            let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
            write!(text, "\n{level} {}\n\n```text\n{}\n```\n", page.path.join(" "), help.trim_end())?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_command_reference_is_what_the_programs_say() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/commands.md");
        let stored = std::fs::read_to_string(file).unwrap_or_default();
        let made = command_reference().await.unwrap();
        let differs = stored.lines().zip(made.lines()).find(|(stored, made)| stored != made);
        assert!(
            stored == made,
            "docs/commands.md is not what --help prints, first here: {differs:#?}\n\
             Run: cargo run -p testbed -- manual --commands docs/commands.md"
        );
    }

    #[test]
    fn every_command_has_a_page_with_examples() {
        let pages: Vec<Page> = programs().into_iter().flat_map(pages).collect();
        let names: Vec<String> = pages.iter().map(Page::name).collect();
        for name in [
            "sctool",
            "sctool-backup-delete-local-snapshot",
            "scylla-manager",
            "scylla-manager-agent-check-location",
        ] {
            assert!(names.iter().any(|n| n == name), "{name} is not in {names:?}");
        }
        assert!(!names.iter().any(|n| n.starts_with("sctool-task-")), "what is hidden stays hidden");
        for page in &pages {
            let text = String::from_utf8(man_page(page).unwrap()).unwrap();
            for part in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH EXAMPLES", ".SH \"SEE ALSO\""] {
                assert!(text.contains(part), "{} has no {part}:\n{text}", page.name());
            }
        }
    }
}
