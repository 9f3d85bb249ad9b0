//! What must be true at the end: in the bucket, on the nodes, in the logs.

use serde_json::Value;

use super::Bed;
use crate::harness::process::Child;
use crate::invariants::{self, Expected};

impl Bed {
    /// Snapshots on the nodes that run: node address and snapshot name.
    ///
    /// # Errors
    /// A data directory cannot be read.
    pub async fn local_snapshots(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for node in self.cluster.nodes() {
            for name in node.snapshots().await?.into_keys() {
                found.push((node.address().to_string(), name));
            }
        }
        Ok(found)
    }

    /// Demands every invariant of the bucket and the nodes; the end of each scenario.
    ///
    /// # Errors
    /// The bucket cannot be read.
    ///
    /// # Panics
    /// An invariant is broken.
    pub async fn assert_invariants(&self) -> anyhow::Result<()> {
        self.assert_invariants_of(&self.bucket).await
    }

    /// As [`assert_invariants`](Self::assert_invariants) for another bucket of the same server.
    ///
    /// # Errors
    /// The bucket cannot be read.
    ///
    /// # Panics
    /// An invariant is broken.
    pub async fn assert_invariants_of(&self, bucket: &str) -> anyhow::Result<()> {
        let contents = self.s3.contents(bucket).await?;
        let local_snapshots = self.local_snapshots().await?;
        invariants::assert_holds(
            &contents,
            &Expected { ledger: Some(&self.ledger), local_snapshots, ..Expected::default() },
        );
        Ok(())
    }

    /// As [`assert_invariants`](Self::assert_invariants) while a run waits to be continued: what it left is no fault.
    ///
    /// # Errors
    /// The bucket cannot be read.
    ///
    /// # Panics
    /// An invariant is broken.
    pub async fn assert_invariants_amid_run(&self) -> anyhow::Result<()> {
        let contents = self.s3.contents(&self.bucket).await?;
        invariants::assert_holds(
            &contents,
            &Expected { ledger: Some(&self.ledger), unfinished_run: true, ..Expected::default() },
        );
        Ok(())
    }

    /// The last lines of every daemon's log, for messages.
    #[must_use]
    pub fn log_tails(&self) -> String {
        let daemons = self.manager.iter().chain(self.agents.iter().flatten());
        daemons.map(Child::log_tail).collect::<Vec<_>>().join("\n")
    }

    /// Lines of the daemons' logs at WARN and ERROR, without those that contain one of `expected`.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn log_problems(&self, expected: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut problems = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let text = std::fs::read(&path)?;
            for line in String::from_utf8_lossy(&text).lines() {
                let is_problem = match serde_json::from_str::<Value>(line) {
                    Ok(fields) => matches!(fields["level"].as_str(), Some("WARN" | "ERROR")),
                    // What is no log line was not meant to be printed: a panic, for one.
                    Err(_) => !line.trim().is_empty(),
                };
                if is_problem && !expected.iter().any(|expected| line.contains(expected)) {
                    let daemon = path.file_stem().unwrap_or_default().to_string_lossy();
                    problems.push(format!("{daemon}: {line}"));
                }
            }
        }
        Ok(problems)
    }
}
