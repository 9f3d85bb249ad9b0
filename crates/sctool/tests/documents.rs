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
            found.extend(line.starts_with("sctool ").then(|| line.to_owned()));
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            let whole = spans.filter(|s| s.starts_with("sctool ") && s.contains(" -c ") && !s.contains('…'));
            found.extend(whole.map(str::to_owned));
        }
    }
    found
}

/// Splits as a shell does, as far as the documents need: quotes, and comments behind a blank.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in command.split(" #").next().unwrap_or_default().chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') if word.is_empty() => {}
            (None, ' ') => words.push(std::mem::take(&mut word)),
            (_, c) => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[tokio::test]
async fn commands_in_the_documents_reach_the_manager() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let env = Env {
        vars: BTreeMap::new(),
        terminal: Terminal { is_terminal: true, width: Some(80) },
        transport: Some(Transport::InProcess(Arc::new(|_| None))),
        draw: Arc::new(ProgressDrawTarget::hidden),
        ..Env::of_process()
    };
    let mut seen = 0;
    for file in ["README.md", "docs/operations.md", "docs/differences.md"] {
        for command in commands(&std::fs::read_to_string(root.join(file)).unwrap()) {
            let command = command.replace("<id>", "3208ff15-6e8f-48b2-875c-d3c73f545410");
            let (mut out, mut err) = (Vec::new(), Vec::new());
            sctool::run(&words(&command)[1..], &env, &mut out, &mut err).await;
            // `status` goes on to the next cluster and tells a failure where the table would stand.
            let said = String::from_utf8_lossy(&[out, err].concat()).into_owned();
            // Nobody listens: whoever gets that far has understood the command.
            assert!(said.contains("connection refused"), "{file}: {command}\n{said}");
            seen += 1;
        }
    }
    assert!(seen >= 7, "commands are not recognised any more: {seen}");
}
