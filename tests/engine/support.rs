//! One engine, one directory of files, one server.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::api::agent::{JobFile, JobProgress, JobStatus};
use scylla_manager_agent::config::{Config, S3Provider, Secret, SignPayload};
use scylla_manager_agent::jobs::{Jobs, system_clock};
use scylla_manager_agent::storage::{ObjectPath, Place, Stores};
use scylla_manager_agent::transfer::rate_limit::RateLimits;
use scylla_manager_agent::transfer::{DirTransfer, Engine};
use testbed::s3::{RequestKind, S3Config, S3Server};

/// What older objects are renamed with.
pub const TAG: &str = ".sm_20260101000000UTC";
/// Where the files go.
pub const DIR: &str = "backups/backup/sst/v";
pub const MIB: usize = 1 << 20;

pub struct Rig {
    pub server: S3Server,
    pub dir: tempfile::TempDir,
    pub engine: Arc<Engine>,
    pub stores: Stores,
    pub jobs: Jobs,
}

impl Rig {
    pub async fn new(provider: S3Provider) -> Self {
        Self::with(provider, S3Config::default()).await
    }

    pub async fn with(provider: S3Provider, server: S3Config) -> Self {
        let server = S3Server::start(server).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("data/snapshot")).unwrap();
        let (engine, stores) = engine(provider, &server, dir.path());
        Self { server, dir, engine, stores, jobs: Jobs::new(system_clock()) }
    }

    /// As after kill -9: whoever held a job is gone, and nothing of it is known.
    pub fn restart(&mut self, provider: S3Provider) {
        (self.engine, self.stores) = engine(provider, &self.server, self.dir.path());
        self.jobs = Jobs::new(system_clock());
    }

    /// Writes a file of the snapshot.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.dir.path().join("data/snapshot").join(name), content).unwrap();
    }

    /// Names of the files left in the snapshot.
    pub fn left(&self) -> Vec<String> {
        names(&self.dir.path().join("data/snapshot"))
    }

    pub fn place(&self, provider: &str, path: &str) -> Place {
        Place::new(self.stores.get(provider).unwrap().clone(), ObjectPath::parse(path).unwrap())
    }

    /// The move of the snapshot into the bucket.
    pub fn movedir(&self) -> DirTransfer {
        DirTransfer {
            from: self.place("data", "snapshot"),
            to: self.place("s3", DIR),
            suffix: Some(TAG.into()),
            overwrite: HashSet::new(),
            remove_source: true,
            transfers: None,
        }
    }

    /// Starts a job.
    pub fn start(&self, dir: DirTransfer) -> u64 {
        let engine = self.engine.clone();
        self.jobs.start(None, |context| async move {
            engine.transfer_dir(&context, dir).await?;
            Ok(serde_json::Value::Null)
        })
    }

    /// Waits for the end of a job.
    pub async fn end(&self, job: u64) -> JobProgress {
        let progress = self.jobs.progress(job, Duration::from_secs(60)).await.unwrap();
        assert_ne!(progress.status, JobStatus::Running, "the job did not end within a minute");
        progress
    }

    /// Runs a job to its end; answers what became of it and of each file.
    pub async fn run(&self, dir: DirTransfer) -> (JobProgress, BTreeMap<String, JobFile>) {
        let job = self.start(dir);
        let progress = self.end(job).await;
        let files = self.jobs.files(job, 0).unwrap().files;
        (progress, files.into_iter().map(|f| (f.name.clone(), f)).collect())
    }

    /// Moves the snapshot, which must succeed.
    pub async fn upload(&self) -> BTreeMap<String, JobFile> {
        let (progress, files) = self.run(self.movedir()).await;
        assert_eq!((progress.status, progress.error.as_str()), (JobStatus::Success, ""));
        files
    }

    /// Content of an object in the job's directory.
    pub fn object(&self, name: &str) -> Option<Vec<u8>> {
        let key = format!("{}/{name}", DIR.split_once('/').unwrap().1);
        self.server.store.object("backups", &key).map(|o| o.blob.read().unwrap().to_vec())
    }

    /// Requests of a kind that arrived.
    pub fn requests(&self, kind: RequestKind) -> u64 {
        self.server.counters.of(kind).requests
    }

    /// Requests of a kind that took effect and were answered.
    pub fn answered(&self, kind: RequestKind) -> usize {
        self.server.counters.log().iter().filter(|r| r.kind == kind && r.status == 200).count()
    }
}

fn engine(provider: S3Provider, server: &S3Server, dir: &Path) -> (Arc<Engine>, Stores) {
    let mut config = Config::default();
    config.s3.provider = provider;
    config.s3.endpoint = Some(server.endpoint());
    config.s3.region = Some("us-east-1".into());
    config.s3.force_path_style = true;
    // Once is enough: the server's SHA-256 takes its time without optimisation.
    let signed = provider == S3Provider::Ceph;
    config.s3.sign_payload = if signed { SignPayload::Auto } else { SignPayload::Never };
    config.s3.access_key_id = Secret::new(server.credentials.access_key.clone());
    config.s3.secret_access_key = Secret::new(server.credentials.secret_key.clone());
    if let Some(certificate) = &server.certificate {
        let file = dir.join("ca.pem");
        std::fs::write(&file, certificate).unwrap();
        config.s3.ca_file = Some(file);
    }
    config.localstorage = Some(dir.join("local"));
    // The smallest budget: parts of 5 MiB.
    config.transfer_memory = 40 << 20;
    config.rclone.low_level_retries = 6;
    let limits = Arc::new(RateLimits::new(config.rclone.bandwidth));
    let stores = Stores::open(&config, &dir.join("data"), &limits, Arc::new(|_, _, _| {}));
    (Engine::new(&config, limits), stores)
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Bytes that differ with the seed; the period is prime, so that no two parts are alike.
pub fn bytes(seed: u8, length: usize) -> Vec<u8> {
    let period: Vec<u8> =
        (0..65_521_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[1] ^ seed).collect();
    let mut all = period.repeat(length / period.len() + 1);
    all.truncate(length);
    all
}

/// Waits for a state that the server does not announce.
pub async fn wait_until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("the state is reached within half a minute");
}
