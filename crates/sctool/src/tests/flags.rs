//! Every flag of every command with a value that cannot be one: the error names both, and nobody is asked.

use std::collections::BTreeSet;

use clap::{Arg, Command};

use super::fake::Fake;

/// No number, date, duration, list, ID, boolean or word that any flag knows.
const NONSENSE: &str = "~nonsense~";

/// Flags that take any text: only the manager, a node or the file system knows better.
const ANY_TEXT: [&str; 21] = [
    "allow-task-type",
    "alternator-access-key-id",
    "alternator-secret-access-key",
    "auth-token",
    "cluster",
    "dc",
    "delimiter",
    "host",
    "keyspace",
    "name",
    "password",
    "run",
    "sort",
    "ssl-user-cert-file",
    "ssl-user-key-file",
    "status",
    "suspend-policy",
    "timezone",
    "type",
    "username",
    "window",
];

/// Path and flags with values of every command that does something and is not a hidden spelling.
fn flags() -> Vec<(String, Arg)> {
    fn collect(command: &Command, path: &str, all: &mut Vec<(String, Arg)>) {
        for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
            let path = format!("{path}{} ", child.get_name());
            if !child.is_subcommand_required_set() {
                // Arguments are counted before flags are read.
                let task = if child.get_positionals().next().is_some() { "backup " } else { "" };
                let flags = child.get_arguments().filter(|arg| arg.get_long().is_some());
                all.extend(flags.map(|arg| (format!("{path}{task}"), arg.clone())));
            }
            collect(child, &path, all);
        }
    }
    let mut all = Vec::new();
    collect(&crate::cli::tree(), "", &mut all);
    all
}

#[tokio::test]
async fn a_value_that_cannot_be_one_is_named_with_its_flag() {
    let mut seen = BTreeSet::new();
    let mut silent = Vec::new();
    for (path, flag) in flags() {
        let name = flag.get_long().unwrap_or_default();
        // Which backup is restored, the manager finds out.
        if ANY_TEXT.contains(&name) || (path.starts_with("restore") && name == "snapshot-tag") {
            continue;
        }
        let run = Fake::new().run(&format!("{path}--{name}={NONSENSE}")).await;
        let named = run.err.contains(NONSENSE) && run.err.contains(&format!("--{name}"));
        if !named || (run.code, run.requests.as_str(), run.out.as_str()) != (1, "", "") {
            silent.push(format!("{path}--{name}: {}", run.text()));
        }
        seen.insert(name.to_owned());
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
    assert!(seen.len() > 40, "{seen:?}");
}
