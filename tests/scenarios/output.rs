//! What programs read: `-o json` on every command that prints.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use testbed::harness::{AUTH_TOKEN, Bed};

use crate::support::{config, json, small};

/// Names of fields in a document. Labels and properties are the user's own.
fn fields(document: &Value, found: &mut BTreeSet<String>) {
    match document {
        Value::Object(map) => {
            for (name, value) in map {
                found.insert(name.clone());
                if !matches!(name.as_str(), "labels" | "properties") {
                    fields(value, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Words between backticks in the description of the command line.
fn documented() -> anyhow::Result<BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sctool.md");
    let text = std::fs::read_to_string(path)?;
    Ok(text.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

#[tokio::test]
async fn every_document_has_the_fields_that_are_documented() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(1))).await?;
    let (task, tag) = bed.backup(&["-K", "shop", "--label", "team=dba"]).await?;
    let (host, port, location) =
        (bed.cluster.nodes()[0].address().to_string(), bed.agent_port().to_string(), bed.location());
    let twin =
        ["cluster", "add", "--name", "twin", "--host", &host, "--port", &port, "--auth-token", AUTH_TOKEN];
    let later = ["backup", "-c", "test", "-L", &location, "-s", "now+1h"];
    let dry = [
        "--dry-run",
        "--rate-limit",
        "5",
        "--snapshot-parallel",
        "1",
        "--upload-parallel",
        "1",
        "--purge-only",
    ];
    let mut seen = BTreeSet::new();
    for (arguments, names) in [
        (&twin[..], &["id", "name"][..]),
        (&["cluster", "list"], &["clusters"]),
        (&["version"], &["client", "server"]),
        (&["status", "-c", "test"], &["clusters"]),
        (&["tasks"], &["clusters"]),
        (&["task", "list", "-c", "test"], &["clusters"]),
        (&["info", "-c", "test", &task], &["task", "runs"]),
        (&["task", "history", "-c", "test", &task], &["runs"]),
        (&["progress", "-c", "test", &task], &["run", "progress"]),
        (&["task", "progress", "-c", "test", &task], &["run", "progress"]),
        (&later, &["task", "type", "id", "name"]),
        (&[&later[..], &dry].concat(), &["target"]),
        (&["backup", "update", "-c", "test", &task, "--retention", "9"], &["task", "type", "id", "name"]),
        (&["backup", "list", "-c", "test"], &["backups"]),
        (&["backup", "files", "-c", "test", "--snapshot-tag", &tag], &["manifests"]),
        (&["suspend", "-c", "twin", "--duration", "1h", "-s", "now+1h"], &["task", "type", "id", "name"]),
        (&["suspend", "update", "-c", "twin", "--duration", "2h"], &["task", "type", "id", "name"]),
    ] {
        let document = json(&bed, arguments).await?;
        let mut expected: BTreeSet<&str> = names.iter().copied().collect();
        expected.insert("schema");
        let top: BTreeSet<&str> =
            document.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        assert_eq!(top, expected, "{arguments:?}");
        fields(&document, &mut seen);
    }
    let documented = documented()?;
    let missing: Vec<&String> = seen.iter().filter(|name| !documented.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/sctool.md does not name {missing:?}");
    assert!(!seen.contains("auth_token"));

    let waited = ["backup", "-c", "test", "-L", &location, "-K", "shop.carts", "--wait", "-o", "json"];
    let run = bed.sctool(&waited).await?;
    let document: Value = serde_json::from_str(&run.stdout)?;
    assert_eq!((&document["schema"], &document["run"]["status"]), (&1.into(), &"DONE".into()));
    // Errors stay on stderr, with the same exit status.
    let failed = bed.sctool(&["info", "-c", "nowhere", "backup/none", "-o", "json"]).await?;
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""));
    Ok(())
}
