//! What the documents tell people to type is accepted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use common::http_client::Transport;
use indicatif::ProgressDrawTarget;
use sctool::env::{Env, Terminal};

/// Commands in shell blocks, and whole ones between backticks.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut shell = false;
    for line in text.lines() {
        if line.starts_with("```") {
            shell = line == "```sh";
        } else if shell {
            let command = line.split(" | ").next().unwrap_or_default();
            // What goes into a file is a script for a shell, and asks nobody.
            let asks = command.starts_with("sctool ") && !command.contains(" > ");
            found.extend(asks.then(|| command.to_owned()));
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            let whole = spans.filter(|s| s.starts_with("sctool ") && s.contains(" -c ") && !s.contains('…'));
            found.extend(whole.map(str::to_owned));
        }
    }
    found
}

/// Commands below `Examples:` in the command reference.
fn examples(reference: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in reference.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            inside = line == "Examples:";
        } else if inside && line.trim_start().starts_with("sctool ") {
            found.push(line.trim_start().to_owned());
        }
    }
    found
}

/// Runs a command against nobody, and demands that it gets that far: then it was understood.
async fn assert_understood(command: &str, env: &Env, place: &str) {
    let command = command.replace("<id>", "3208ff15-6e8f-48b2-875c-d3c73f545410");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let words = shlex::split(&command).unwrap_or_else(|| panic!("{place}: an open quote: {command}"));
    sctool::run(&words[1..], env, &mut out, &mut err).await;
    // `status` goes on to the next cluster and tells a failure where the table would stand.
    let said = String::from_utf8_lossy(&[out, err].concat()).into_owned();
    assert!(said.contains("connection refused"), "{place}: {command}\n{said}");
}

fn nobody_listens() -> Env {
    Env {
        vars: BTreeMap::new(),
        terminal: Terminal { is_terminal: true, width: Some(80) },
        transport: Some(Transport::InProcess(Arc::new(|_| None))),
        draw: Arc::new(ProgressDrawTarget::hidden),
        ..Env::of_process()
    }
}

fn read(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[tokio::test]
async fn commands_in_the_documents_reach_the_manager() {
    let env = nobody_listens();
    let mut seen = 0;
    let pages = [
        "backup",
        "clusters",
        "configuration",
        "differences",
        "install",
        "sctool",
        "storage",
        "troubleshooting",
    ];
    let mut files: Vec<String> = pages.iter().map(|page| format!("docs/{page}.md")).collect();
    files.push("README.md".to_owned());
    for file in &files {
        for command in commands(&read(file)) {
            assert_understood(&command, &env, file).await;
            seen += 1;
        }
    }
    assert!(seen >= 55, "commands are not recognised any more: {seen}");
}

#[tokio::test]
async fn examples_in_the_help_reach_the_manager() {
    let env = nobody_listens();
    let examples = examples(&read("docs/commands.md"));
    assert!(examples.len() >= 40, "examples are not recognised any more: {examples:#?}");
    // A script for a shell, the help itself, and a file that is the reader's own.
    let alone = ["sctool completion ", "--help", " --nodes-mapping "];
    for example in examples.iter().filter(|example| !alone.iter().any(|part| example.contains(part))) {
        assert_understood(example, &env, "--help").await;
    }
}
