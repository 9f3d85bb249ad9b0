//! The command tree: names, flags, help texts. What a command does is in `command`.

pub mod backup;
pub mod cluster;
pub mod help;
pub mod restore;
pub mod shared;
pub mod tasks;

use clap::{Args, Command};

use crate::args::is_switch;
use crate::values::Switch;

/// Flags that every command takes (spec/sctool.md 1.1).
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalFlags {
    /// Base URL of the manager's REST API, with the path /api/v1
    #[arg(long, value_name = "url")]
    pub api_url: Option<String>,
    /// File with the client certificate for HTTPS, PEM (default $SCYLLA_MANAGER_API_CERT_FILE)
    #[arg(long, value_name = "path")]
    pub api_cert_file: Option<String>,
    /// File with the private key of the client certificate, PEM (default $SCYLLA_MANAGER_API_KEY_FILE)
    #[arg(long, value_name = "path")]
    pub api_key_file: Option<String>,
    /// Print the version of this program
    #[arg(long)]
    pub version: Option<Switch>,
}

#[derive(Debug, Clone, Args)]
pub struct VersionFlags {
    #[command(flatten)]
    pub output: shared::OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct NoFlags {}

/// The whole tree, the single definition of what can be typed.
pub fn tree() -> Command {
    let root = GlobalFlags::augment_args(Command::new("sctool"))
        .about("Scylla Manager client")
        .long_about(ROOT_LONG)
        .after_help(ROOT_EXAMPLES)
        .subcommand_required(true)
        .subcommand(backup::command())
        .subcommand(restore::command())
        .subcommand(cluster::command())
        .subcommand(cluster::status())
        .subcommands(tasks::commands())
        .subcommand(repair())
        .subcommand(tasks::legacy())
        .subcommand(
            leaf_with::<VersionFlags>("version", "Show the versions of client and server")
                .override_usage("[flags]")
                .after_help("  sctool version\n  sctool version -o json"),
        )
        .subcommand(completion());
    plain(root)
}

/// Reserved: named so that it can be refused with a reason, whatever flags it is called with.
fn repair() -> Command {
    leaf_with::<NoFlags>("repair", "Not part of this program, see the error it prints").hide(true)
}

fn completion() -> Command {
    let examples = COMPLETION.map(|(shell, line)| format!("  {:6} {line}", format!("{shell}:")));
    let mut all =
        group("completion", "Print a completion script for a shell").after_help(examples.join("\n"));
    for (shell, example) in COMPLETION {
        let about = format!("Print the completion script for {shell}");
        all = all.subcommand(leaf_with::<NoFlags>(shell, about).after_help(format!("  {example}")));
    }
    all
}

/// A command that does something, with a description of more than a line.
fn leaf<A: Args>(name: &'static str, about: &'static str, long: &'static str) -> Command {
    leaf_with::<A>(name, about).long_about(long)
}

fn leaf_with<A: Args>(name: &'static str, about: impl Into<clap::builder::StyledStr>) -> Command {
    A::augment_args(Command::new(name)).about(about)
}

/// A command that only has children.
fn group(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).subcommand_required(true)
}

/// Switches off what the program does itself (help, version) and tells clap how switches look.
fn plain(command: Command) -> Command {
    let command = command
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .disable_version_flag(true)
        .mut_args(|arg| match is_switch(&arg) {
            true => arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("bool"),
            false => arg,
        });
    command.mut_subcommands(plain)
}

/// The tree for parsing: nothing is required, because missing flags are reported in the original's words and
/// only after the values of those given were checked.
pub fn lenient(command: Command) -> Command {
    let command = command.subcommand_required(false).mut_args(|arg| arg.required(false));
    command.mut_subcommands(lenient)
}

const ROOT_LONG: &str = "\
sctool talks to Scylla Manager, which backs ScyllaDB clusters up to object stores. Start here:

  sctool cluster add    makes a cluster known
  sctool backup         schedules a backup, or runs one now
  sctool progress       shows how far it is
  sctool backup list    shows what can be restored";

const ROOT_EXAMPLES: &str = "\
  sctool cluster add --host 10.20.0.11 --name prod-cluster --auth-token \"$TOKEN\"
  sctool backup -c prod-cluster -L s3:my-backups --cron '30 2 * * *' --retention 7
  sctool tasks -c prod-cluster";

/// Each shell, and how to use its script.
const COMPLETION: [(&str, &str); 3] = [
    ("bash", "source <(sctool completion bash)"),
    ("zsh", "sctool completion zsh > \"${fpath[1]}/_sctool\""),
    ("fish", "sctool completion fish > ~/.config/fish/completions/sctool.fish"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Command;

    use super::*;

    fn walk(command: &Command, visit: &mut impl FnMut(&Command)) {
        visit(command);
        command.get_subcommands().for_each(|child| walk(child, visit));
    }

    /// A flag may stand before the subcommand; whether the next word is its value must not depend on which.
    #[test]
    fn a_flag_name_is_a_switch_everywhere_or_nowhere() {
        let mut kinds: BTreeMap<String, bool> = BTreeMap::new();
        walk(&tree(), &mut |command| {
            for arg in command.get_opts() {
                let names = arg.get_long().into_iter().map(|long| format!("--{long}"));
                for name in names.chain(arg.get_short().map(|short| format!("-{short}"))) {
                    let kind = is_switch(arg);
                    assert_eq!(
                        *kinds.entry(name.clone()).or_insert(kind),
                        kind,
                        "{name} in {}",
                        command.get_name()
                    );
                }
            }
        });
    }

    #[test]
    fn clap_accepts_the_tree() {
        tree().debug_assert();
        lenient(tree()).debug_assert();
    }
}
