//! One engine, one directory of files, one server.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::api::agent::{JobProgress, JobStatus};
use scylla_manager_agent::config::{Config, S3Provider, Secret};
use scylla_manager_agent::jobs::{Jobs, system_clock};
use scylla_manager_agent::storage::{ObjectPath, Place, Stores};
use scylla_manager_agent::transfer::rate_limit::RateLimits;
use scylla_manager_agent::transfer::{DirTransfer, Engine};
use tempfile::TempDir;
use testbed::s3::{S3Config, S3Server};

pub const MIB: usize = 1024 * 1024;
/// Where the files go in the bucket `backups`.
pub const TABLE: &str = "backup/sst/cluster/c/dc/dc1/node/n/keyspace/ks/table/t/v";

pub struct Rig {
    pub server: S3Server,
    pub dir: TempDir,
    pub jobs: Jobs,
    engine: Arc<Engine>,
    stores: Stores,
}

impl Rig {
    pub async fn start(provider: S3Provider, s3: S3Config) -> anyhow::Result<Self> {
        let server = S3Server::start(s3).await?;
        let dir = tempfile::tempdir()?;
        std::fs::create_dir_all(dir.path().join("snapshot"))?;
        let (engine, stores) = engine(provider, &server, dir.path())?;
        Ok(Self { server, dir, jobs: Jobs::new(system_clock()), engine, stores })
    }

    /// A new process, as far as the engine can tell: nothing of the old one is known.
    pub fn restart_engine(&mut self, provider: S3Provider) -> anyhow::Result<()> {
        (self.engine, self.stores) = engine(provider, &self.server, self.dir.path())?;
        self.jobs = Jobs::new(system_clock());
        Ok(())
    }

    /// Writes a file of the snapshot.
    pub fn write(&self, name: &str, body: &[u8]) -> anyhow::Result<()> {
        Ok(std::fs::write(self.dir.path().join("snapshot").join(name), body)?)
    }

    /// Names of the files left in the snapshot.
    pub fn left(&self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.dir.path().join("snapshot"))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn place(&self, provider: &str, path: &str) -> anyhow::Result<Place> {
        let store = self.stores.get(provider).ok_or_else(|| anyhow::anyhow!("no provider {provider}"))?;
        Ok(Place::new(store.clone(), ObjectPath::parse(path)?))
    }

    /// Starts to move the snapshot into the bucket; answers the job.
    pub fn start_move(&self, suffix: &str) -> anyhow::Result<u64> {
        let work = DirTransfer {
            from: self.place("data", "snapshot")?,
            to: self.place("s3", &format!("backups/{TABLE}"))?,
            suffix: Some(suffix.to_owned()),
            overwrite: HashSet::new(),
            remove_source: true,
            transfers: None,
        };
        let engine = self.engine.clone();
        Ok(self.jobs.start(None, |context| async move {
            engine.transfer_dir(&context, work).await?;
            Ok(serde_json::Value::Null)
        }))
    }

    /// Moves the snapshot and waits for the end.
    pub async fn move_snapshot(&self, suffix: &str) -> anyhow::Result<JobProgress> {
        let job = self.start_move(suffix)?;
        loop {
            let progress = self.jobs.progress(job, Duration::from_secs(60)).await?;
            if progress.status != JobStatus::Running {
                return Ok(progress);
            }
        }
    }

    /// Size and CRC-32 of an object of the table.
    pub fn object(&self, name: &str) -> Option<(u64, u32)> {
        let object = self.server.store.object("backups", &format!("{TABLE}/{name}"))?;
        Some((object.blob.size(), object.blob.crc32()))
    }
}

fn engine(provider: S3Provider, server: &S3Server, data: &Path) -> anyhow::Result<(Arc<Engine>, Stores)> {
    let mut config = Config::default();
    config.s3.provider = provider;
    config.s3.endpoint = Some(server.endpoint());
    config.s3.region = Some("us-east-1".into());
    config.s3.force_path_style = true;
    config.s3.access_key_id = Secret::new(&server.credentials.access_key);
    config.s3.secret_access_key = Secret::new(&server.credentials.secret_key);
    config.s3.chunk_size = 5 * MIB as u64;
    config.s3.upload_cutoff = 5 * MIB as u64;
    if let Some(certificate) = &server.certificate {
        // Beside the data directory of the node, which is the snapshot's parent.
        let file = data.join("ca.pem");
        std::fs::write(&file, certificate)?;
        config.s3.ca_file = Some(file);
    }
    let limits = Arc::new(RateLimits::new(config.rclone.bandwidth));
    let stores = Stores::open(&config, data, &limits, Arc::new(|_, _, _| {}));
    Ok((Engine::new(&config, limits), stores))
}

/// Bytes that look like nothing else of the same length.
pub fn body(size: usize, seed: u8) -> Vec<u8> {
    (0..size).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ seed).collect()
}

/// What [`Rig::object`] answers for this body.
pub fn facts(body: &[u8]) -> Option<(u64, u32)> {
    Some((body.len() as u64, crc32fast::hash(body)))
}
