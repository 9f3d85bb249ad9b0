//! What the guides tell to type works, word for word, in the order of the page.

use std::path::Path;

use anyhow::Context;
use regex::Regex;
use serde_json::Value;
use testbed::cluster::{ClusterBuilder, KeyspaceSpec, TableSpec};
use testbed::harness::{AUTH_TOKEN, Bed, BedConfig, Deadline, wait_for};
use testbed::s3::S3Config;

use crate::support::config;

/// Two datacenters, with the keyspaces and buckets that the pages name.
fn installation() -> BedConfig {
    let table = |name: &str| TableSpec::new(name).sstables(1).data_size(16 * 1024);
    let cluster = ClusterBuilder::new()
        .dc("eu-dc", 2)
        .dc("us-dc", 1)
        .keyspace(KeyspaceSpec::new("auth_service").table(table("roles")).table(table("lru_cache")))
        .keyspace(KeyspaceSpec::new("shop").table(table("orders")));
    let buckets = ["my-backups", "eu-backups", "us-backups"].map(str::to_owned).to_vec();
    BedConfig {
        s3: S3Config { buckets, ..S3Config::default() },
        name: "prod-cluster".to_owned(),
        ..config(cluster)
    }
}

/// The commands in the shell blocks of a page.
///
/// # Panics
/// A command stands where nobody would look for it, and would not be tried.
fn commands(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (mut found, mut block) = (Vec::new(), None);
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            block = if block.is_some() { None } else { Some(language) };
        } else if let Some(language) = block {
            let is_command = line.trim_start_matches(['$', '#', ' ']).starts_with("sctool ");
            assert!(!is_command || language == "sh", "{page}: not in a block of the shell: {line}");
            found.extend(is_command.then(|| line.to_owned()));
        }
    }
    found
}

/// Puts what the reader has in the place of what the pages show.
struct Reader<'a> {
    bed: &'a Bed,
    /// The task that the last command printed.
    task: String,
}

impl Reader<'_> {
    async fn arguments(&self, command: &str) -> anyhow::Result<Vec<String>> {
        let host = self.bed.cluster.nodes()[0].address().to_string();
        let mut text = command.replace("10.0.0.11", &host);
        text = text.replace("$TOKEN", AUTH_TOKEN).replace("$PASSWORD", "secret");
        text = Regex::new(r"backup/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")?
            .replace_all(&text, self.task.as_str())
            .into_owned();
        let tag = Regex::new(r"sm_\d{14}UTC")?;
        if tag.is_match(&text) {
            text = tag.replace_all(&text, self.newest_tag().await?.as_str()).into_owned();
        }
        let mut words = shlex::split(&text).with_context(|| format!("an open quote: {command}"))?;
        if text.starts_with("sctool cluster add ") {
            // The agents of this machine may have had to take another port.
            words.extend(["--port".to_owned(), self.bed.agent_port().to_string()]);
        }
        Ok(words.split_off(1))
    }

    async fn newest_tag(&self) -> anyhow::Result<String> {
        let listed = self.bed.sctool_ok(&[
            "backup",
            "list",
            "-c",
            "prod-cluster",
            "-L",
            "s3:my-backups",
            "-o",
            "json",
        ]);
        let listed: Value = serde_json::from_str(&listed.await?)?;
        let tags = listed["backups"].as_array().into_iter().flatten();
        let tags = tags.flat_map(|backup| backup["snapshot_info"].as_array().into_iter().flatten());
        let newest = tags.filter_map(|info| info["snapshot_tag"].as_str()).max();
        Ok(newest.context("there is no snapshot yet")?.to_owned())
    }

    /// Waits for the end of every run, so that each command meets the state that the page speaks of.
    async fn wait_until_idle(&self) -> anyhow::Result<()> {
        wait_for("the end of all runs", Deadline::seconds(120), async || {
            let clusters = self.bed.api.get("/clusters").await?;
            let mut busy = Vec::new();
            for cluster in clusters.as_array().into_iter().flatten() {
                let id = cluster["id"].as_str().context("a cluster has an ID")?;
                let tasks = self.bed.api.get(&format!("/cluster/{id}/tasks?type=backup")).await?;
                busy.extend(tasks.as_array().into_iter().flatten().filter(|task| is_busy(task)).cloned());
            }
            Ok(busy.is_empty().then_some(()))
        })
        .await
    }
}

/// Runs, or is about to.
fn is_busy(task: &Value) -> bool {
    let due = task["next_activation"].as_str().and_then(|t| chrono::DateTime::parse_from_rfc3339(t).ok());
    let soon = due.is_some_and(|due| due.to_utc() < chrono::Utc::now() + chrono::TimeDelta::seconds(5));
    matches!(task["status"].as_str(), Some("RUNNING" | "STOPPING" | "WAITING")) || soon
}

/// Runs every command of a page, demands success, and answers what each printed.
async fn follow(bed: &Bed, page: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut reader = Reader { bed, task: String::new() };
    let mut done = Vec::new();
    for command in commands(page) {
        reader.wait_until_idle().await?;
        let arguments = reader.arguments(&command).await?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let printed = bed.sctool_ok(&arguments).await.with_context(|| format!("docs/{page}: {command}"))?;
        if printed.starts_with("backup/") {
            reader.task = printed.trim().to_owned();
        }
        done.push((command, printed));
    }
    reader.wait_until_idle().await?;
    Ok(done)
}

#[tokio::test]
async fn the_page_about_clusters_works_as_it_is_written() -> anyhow::Result<()> {
    let bed = Bed::start(BedConfig { register: false, ..installation() }).await?;
    let done = follow(&bed, "clusters.md").await?;
    assert!(done.len() >= 14, "commands are not recognised any more: {done:#?}");
    let status = done.iter().find(|(command, _)| command.starts_with("sctool status")).context("status")?;
    assert_eq!(status.1.matches("UN").count(), 3, "{}", status.1);
    // The last command takes back what the first did.
    assert_eq!(bed.api.get("/clusters").await?.as_array().map(Vec::len), Some(0));
    Ok(())
}

#[tokio::test]
async fn the_guide_works_as_it_is_written() -> anyhow::Result<()> {
    let bed = Bed::start(installation()).await?;
    let done = follow(&bed, "backup.md").await?;
    assert!(done.len() >= 40, "commands are not recognised any more: {done:#?}");
    // What stands under "Once, now" has become a backup, and every task of the page has run well or not yet.
    let (_, progress) =
        done.iter().find(|(command, _)| command.ends_with("before-upgrade")).context("progress")?;
    assert!(progress.contains("Status:\t\tDONE\n"), "{progress}");
    let tasks = bed.api.get("/cluster/prod-cluster/tasks?type=backup").await?;
    for task in tasks.as_array().into_iter().flatten() {
        assert_eq!(task["error_count"], 0, "{task}");
    }
    // Each datacenter has kept to its bucket.
    for (bucket, dc, other) in
        [("eu-backups", "/dc/eu-dc/", "/dc/us-dc/"), ("us-backups", "/dc/us-dc/", "/dc/eu-dc/")]
    {
        let contents = bed.s3.contents(bucket).await?;
        let keys: Vec<&str> = contents.keys_below("").collect();
        assert!(keys.iter().any(|key| key.contains(dc)), "{bucket}: {keys:#?}");
        assert!(!keys.iter().any(|key| key.contains(other)), "{bucket}: {keys:#?}");
    }
    Ok(())
}
