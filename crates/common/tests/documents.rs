//! The documents name files and tests that exist.
//!
//! Here because every crate is built after this one: a stale path is found before anything else runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// README and everything below `docs`.
fn documents() -> std::io::Result<Vec<PathBuf>> {
    let mut files = vec![root().join("README.md")];
    let mut dirs = vec![root().join("docs")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let found = if entry.file_type()?.is_dir() { &mut dirs } else { &mut files };
            found.push(entry.path());
        }
    }
    Ok(files)
}

/// Texts between single backticks, outside of code blocks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    let prose = text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !fence && !inside
    });
    prose.flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Names in the root of the repository that a path can begin with.
fn is_path(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or_default();
    let starts_here = ["crates", "tests", "docs", "dist", ".ci"].contains(&first);
    starts_here || (text.contains('/') && text.ends_with(".rs"))
}

#[test]
fn paths_in_the_documents_exist() {
    let mut missing = BTreeSet::new();
    for file in documents().unwrap() {
        let text = read(&file);
        for path in quoted(&text).filter(|t| is_path(t)) {
            if !root().join(path).exists() {
                missing.insert(format!("{}: {path}", file.display()));
            }
        }
    }
    assert!(missing.is_empty(), "documents name what does not exist: {missing:#?}");
}

#[test]
fn the_architecture_names_every_crate_and_its_way_in() {
    let text = read(&root().join("docs/ARCHITECTURE.md"));
    let named: BTreeSet<&str> = quoted(&text).collect();
    for path in ["crates/common", "crates/agent", "crates/manager", "crates/sctool", "tests"] {
        assert!(named.contains(path), "docs/ARCHITECTURE.md does not name {path}");
    }
    assert!(named.iter().filter(|t| is_path(t)).count() > 40, "paths are not recognised any more");
}

/// What a heading is called behind the `#` of a link.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    headings.map(|heading| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    })
}

#[test]
fn links_between_the_documents_work() {
    let mut broken = BTreeSet::new();
    for file in documents().unwrap() {
        let text = read(&file);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            if path.contains("://") {
                continue;
            }
            let linked = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            let works =
                linked.exists() && (heading.is_empty() || anchors(&read(&linked)).any(|a| a == heading));
            if !works {
                broken.insert(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "documents link to what does not exist: {broken:#?}");
}

#[test]
fn every_decision_is_linked() {
    let text = read(&root().join("docs/ARCHITECTURE.md"));
    for entry in std::fs::read_dir(root().join("docs/decisions")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(text.contains(&format!("(decisions/{name})")), "docs/ARCHITECTURE.md does not link {name}");
    }
}

#[test]
fn tests_named_in_the_promises_exist() {
    let text = read(&root().join("docs/promises.md"));
    let (mut seen, mut missing) = (0, BTreeSet::new());
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let mut source = None;
        for word in quoted(line) {
            if is_path(word) {
                source = Some((word, read(&root().join(word))));
                continue;
            }
            let is_name = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let Some((path, code)) = source.as_ref().filter(|_| is_name) else { continue };
            seen += 1;
            if !code.contains(&format!("fn {word}(")) {
                missing.insert(format!("{path}: {word}"));
            }
        }
    }
    assert!(seen > 50, "names of tests are not recognised any more");
    assert!(missing.is_empty(), "docs/promises.md names tests that do not exist: {missing:#?}");
}

/// A table row of `docs/api.md` cannot name a call, a method or a path that the contracts do not have.
#[test]
fn calls_in_the_api_document_exist() {
    let document = read(&root().join("docs/api.md"));
    let api = root().join("crates/common/src/api");
    let manager = read(&api.join("manager/endpoints.rs"));
    let (mut seen, mut wrong) = (0, BTreeSet::new());
    for row in document.lines().filter(|line| line.starts_with("| `")) {
        let words: Vec<&str> = quoted(row).take(2).collect();
        let [name, call] = words[..] else { continue };
        let Some((method, path)) = call.split_once(" /cluster").map(|(m, p)| (m, format!("/cluster{p}")))
        else {
            continue;
        };
        seen += 1;
        if !manager.contains(&format!("{name}, {method}, \"{path}\"")) {
            wrong.insert(row.to_owned());
        }
    }
    assert!(seen > 20, "rows of calls are not recognised any more");
    assert!(wrong.is_empty(), "docs/api.md differs from the contracts: {wrong:#?}");
}

/// Every setting of the packaged files, commented or not, as `section.key`.
fn settings(yaml: &str) -> Vec<String> {
    let mut sections: Vec<(usize, String)> = Vec::new();
    let mut found = Vec::new();
    for line in yaml.lines() {
        let bare = line.trim_start();
        let setting = bare.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(bare);
        let Some((key, value)) = setting.split_once(':').filter(|_| !bare.starts_with("# ")) else {
            continue;
        };
        let indent = line.len() - bare.len();
        sections.retain(|(outer, _)| *outer < indent);
        let path = sections.iter().map(|(_, name)| name.as_str()).chain([key]).collect::<Vec<_>>().join(".");
        if value.trim().is_empty() {
            sections.push((indent, key.to_owned()));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_setting_of_the_packaged_files_is_explained() {
    let text = read(&root().join("docs/configuration.md"));
    let (agent, manager) =
        text.split_once("## The manager").expect("a part for the agent, and one for the manager");
    for (file, part) in [("scylla-manager-agent.yaml", agent), ("scylla-manager.yaml", manager)] {
        let settings = settings(&read(&root().join("dist/etc").join(file)));
        assert!(settings.len() > 25, "{file}: settings are not recognised any more: {settings:?}");
        let explained: BTreeSet<&str> = quoted(part).collect();
        let missing: Vec<&String> = settings.iter().filter(|key| !explained.contains(key.as_str())).collect();
        assert!(missing.is_empty(), "docs/configuration.md does not explain {missing:?} of {file}");
    }
}
