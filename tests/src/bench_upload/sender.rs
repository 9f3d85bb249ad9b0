//! The agent's engine, through the job registry, on the files of the benchmark.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::api::agent::JobStatus;
use scylla_manager_agent::config::{Config, S3Provider, Secret};
use scylla_manager_agent::jobs::{Jobs, system_clock};
use scylla_manager_agent::storage::{ObjectPath, Place, Stores};
use scylla_manager_agent::transfer::rate_limit::RateLimits;
use scylla_manager_agent::transfer::{DirTransfer, Engine};

use super::{Figures, MIB, files};
use crate::command::measure::{cpu_seconds, memory_peak};

/// Moves the tables one after the other, as the manager asks for it.
pub(super) async fn run(server: &str, dir: &Path, signed: bool, transfers: u32) -> anyhow::Result<Figures> {
    let bytes = files::list(dir)?.iter().map(|(_, size)| size).sum();
    let mut config = Config::default();
    config.s3.provider = if signed { S3Provider::Other } else { S3Provider::Aws };
    config.s3.endpoint = Some(format!("http://{server}"));
    config.s3.region = Some("us-east-1".into());
    config.s3.force_path_style = true;
    config.s3.access_key_id = Secret::new("benchmark");
    config.s3.secret_access_key = Secret::new("benchmark");
    let limits = Arc::new(RateLimits::new(config.rclone.bandwidth));
    let stores = Stores::open(&config, dir, &limits, Arc::new(|_, _, _| {}));
    let engine = Engine::new(&config, limits);
    let jobs = Jobs::new(system_clock());
    let place = |provider: &str, path: &str| -> anyhow::Result<Place> {
        let store = stores.get(provider).context("the provider is missing")?;
        Ok(Place::new(store.clone(), ObjectPath::parse(path)?))
    };
    let before = usage()?.0;
    let start = Instant::now();
    for (table, _) in files::tables(dir).iter().enumerate() {
        let work = DirTransfer {
            from: place("data", &format!("snapshot/{table}"))?,
            to: place(
                "s3",
                &format!("bucket/backup/sst/cluster/c/dc/dc1/node/n/keyspace/ks/table/t{table}/v"),
            )?,
            suffix: Some(".sm_20260101000000UTC".into()),
            overwrite: std::collections::HashSet::new(),
            remove_source: true,
            transfers: Some(transfers),
        };
        let engine = engine.clone();
        let id = jobs.start(None, |context| async move {
            engine.transfer_dir(&context, work).await?;
            Ok(serde_json::Value::Null)
        });
        let progress = loop {
            let progress = jobs.progress(id, Duration::from_secs(10)).await?;
            if progress.status != JobStatus::Running {
                break progress;
            }
        };
        anyhow::ensure!(progress.status == JobStatus::Success, "the job failed: {}", progress.error);
    }
    let seconds = start.elapsed().as_secs_f64();
    let (cpu_seconds, peak_rss) = usage()?;
    Ok(Figures { seconds, cpu_seconds: cpu_seconds - before, peak_rss, bytes, small_requests: 0 })
}

/// CPU seconds and peak resident bytes of this process.
pub(super) fn usage() -> anyhow::Result<(f64, u64)> {
    let own = std::process::id();
    Ok((cpu_seconds(own)?, (memory_peak(own)? * MIB) as u64))
}
