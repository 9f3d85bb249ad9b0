//! Provider `s3`: Amazon S3 and what speaks its protocol, through the AWS SDK.
//!
//! The SDK builds, signs and parses, but for the uploads in `direct`; connections, retries, concurrency, rate limit and
//! checksums are ours.

mod access;
mod body;
mod checksum;
mod client;
mod connect;
mod copy;
mod credentials;
mod credentials_http;
mod delete;
mod direct;
mod errors;
mod http;
mod list;
mod multipart;
mod object;
mod pacing;
mod quirks;
mod sse;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedCredentialsProvider;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use hyper_util::client::proxy::matcher::Matcher;

pub use self::access::Access;
use self::client::Regional;
use self::credentials::Chain;
pub use self::credentials::CredentialSource;
use self::credentials_http::CredentialsHttp;
pub use self::http::RequestObserver;
use self::http::StorageHttp;
use self::pacing::Pacer;
use self::quirks::Quirks;
use self::sse::Encryption;
use super::{
    ByteRange, DeleteReport, Depth, Entry, Hashes, LargeSpec, LargeUpload, Leftover, ObjectInfo, ObjectPath,
    ObjectReader, ObjectStore, PartRules, Payload, Result, Source, Space, StorageError,
};
use crate::config::{EngineConfig, MIN_CHUNK, S3Config};
use crate::transfer::rate_limit::RateLimits;

/// Name of the provider.
const PROVIDER: &str = "s3";

/// An object store. Cheap to clone.
#[derive(Clone)]
pub struct S3Store(Arc<Inner>);

struct Inner {
    config: S3Config,
    quirks: Quirks,
    encryption: Encryption,
    pacer: Pacer,
    limits: Arc<RateLimits>,
    checkers: usize,
    http: std::result::Result<StorageHttp, String>,
    /// One client per region; made at the first use, because then a mistake fails that call and not the daemon.
    clients: tokio::sync::Mutex<BTreeMap<String, Regional>>,
    /// Buckets that turned out to live in another region than the configured one.
    regions: RwLock<BTreeMap<String, String>>,
    /// Where the objects of each bucket are.
    addresses: RwLock<BTreeMap<String, Arc<direct::Address>>>,
    /// Where credentials come from; `None` for anonymous requests. A mistake shows at the first use, as with clients.
    credentials: std::result::Result<Option<Chain>, String>,
    credentials_http: std::result::Result<CredentialsHttp, String>,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("provider", &self.0.config.provider).finish_non_exhaustive()
    }
}

impl S3Store {
    /// A store with the given settings. Nothing is sent yet, and mistakes in the settings show at the first call.
    pub fn new(
        config: &S3Config,
        engine: &EngineConfig,
        limits: Arc<RateLimits>,
        observer: RequestObserver,
    ) -> Self {
        let ca_files: Vec<_> = config.ca_file.iter().chain(&engine.ca_cert).map(AsRef::as_ref).collect();
        let tls = http::tls_config(engine.insecure_skip_verify, &ca_files);
        let tls = tls.map(Arc::new).map_err(|e| common::error::chain(&e));
        let http = |observer: &RequestObserver, proxies| {
            tls.clone().map(|tls| StorageHttp::new(engine, tls, observer.clone(), proxies))
        };
        // Only answers of the store are counted.
        let unseen: RequestObserver = Arc::new(|_, _, _| {});
        let credentials_http = http(&unseen, Matcher::from_env()).and_then(|proxied| {
            Ok(CredentialsHttp::new(proxied, http(&unseen, Matcher::builder().build())?))
        });
        let credentials = credentials_http.clone().and_then(|http| credentials::chain(config, http));
        Self(Arc::new(Inner {
            quirks: Quirks::new(config),
            encryption: Encryption::new(config),
            pacer: Pacer::new(engine.low_level_retries),
            limits,
            checkers: engine.checkers.max(1) as usize,
            http: http(&observer, Matcher::from_env()),
            credentials,
            credentials_http,
            clients: tokio::sync::Mutex::default(),
            regions: RwLock::default(),
            addresses: RwLock::default(),
            config: config.clone(),
        }))
    }

    async fn client(&self, bucket: &str) -> Result<Client> {
        self.regional(bucket).await.map(|regional| regional.client)
    }

    async fn regional(&self, bucket: &str) -> Result<Regional> {
        let region = {
            let regions = self.0.regions.read().unwrap_or_else(PoisonError::into_inner);
            regions.get(bucket).cloned().unwrap_or_else(|| self.0.config.effective_region().to_owned())
        };
        let http =
            self.0.http.clone().map_err(|reason| StorageError::Config { provider: PROVIDER, reason })?;
        let chain = self.credentials()?.map(SharedCredentialsProvider::new);
        let mut clients = self.0.clients.lock().await;
        if let Some(regional) = clients.get(&region) {
            return Ok(regional.clone());
        }
        let client = client::build(&self.0.config, &region, http, chain);
        clients.insert(region, client.clone());
        Ok(client)
    }

    fn credentials(&self) -> Result<Option<Chain>> {
        self.0.credentials.clone().map_err(|reason| StorageError::Credentials { reason })
    }

    /// Notes where a bucket lives. True if that is news, so that the request is worth another try.
    fn moved(&self, bucket: &str, region: Option<&str>) -> bool {
        let Some(region) = region.filter(|_| self.0.config.endpoint.is_none()) else { return false };
        let mut regions = self.0.regions.write().unwrap_or_else(PoisonError::into_inner);
        let before = regions.insert(bucket.to_owned(), region.to_owned());
        before.as_deref().unwrap_or(self.0.config.effective_region()) != region
    }
}

/// Bucket and key of an object; both must be there.
fn object(path: &ObjectPath) -> Result<(&str, &str)> {
    match path.bucket_and_key() {
        ("", _) | (_, "") => Err(StorageError::NotAFile { path: path.to_string() }),
        both => Ok(both),
    }
}

impl ObjectStore for S3Store {
    fn provider(&self) -> &str {
        PROVIDER
    }

    fn is_local(&self) -> bool {
        false
    }

    fn wants(&self) -> Hashes {
        Hashes { sha256: self.0.quirks.sign_payload }
    }

    fn part_rules(&self) -> PartRules {
        PartRules {
            min_part: MIN_CHUNK,
            chunk: self.0.config.chunk_size,
            max_parts: self.0.config.max_upload_parts.min(10_000),
            cutoff: self.0.config.upload_cutoff,
            concurrency: self.0.config.upload_concurrency,
        }
    }

    fn list<'a>(&'a self, dir: &'a ObjectPath, depth: Depth) -> BoxStream<'a, Result<Entry>> {
        list::stream(self, dir, depth).boxed()
    }

    fn stat<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<ObjectInfo>> {
        self.head(path).boxed()
    }

    fn open<'a>(
        &'a self,
        path: &'a ObjectPath,
        range: Option<ByteRange>,
    ) -> BoxFuture<'a, Result<ObjectReader>> {
        self.get(path, range).boxed()
    }

    fn source<'a>(
        &'a self,
        path: &'a ObjectPath,
        known: Option<ObjectInfo>,
    ) -> BoxFuture<'a, Result<Arc<dyn Source>>> {
        async move {
            let info = match known {
                Some(info) => info,
                None => self.head(path).await?,
            };
            Ok(Arc::new(object::S3Source::new(self.clone(), path.clone(), info)) as Arc<dyn Source>)
        }
        .boxed()
    }

    fn put<'a>(&'a self, path: &'a ObjectPath, content: &'a Payload) -> BoxFuture<'a, Result<()>> {
        async move { self.0.pacer.run(|| self.put_object(path, content)).await }.boxed()
    }

    fn begin_large<'a>(
        &'a self,
        path: &'a ObjectPath,
        spec: LargeSpec,
        resume: bool,
    ) -> BoxFuture<'a, Result<Box<dyn LargeUpload>>> {
        async move { Ok(Box::new(multipart::begin(self, path, spec, resume).await?) as Box<dyn LargeUpload>) }
            .boxed()
    }

    fn unfinished<'a>(&'a self, dir: &'a ObjectPath) -> BoxFuture<'a, Result<Vec<Leftover>>> {
        multipart::unfinished(self, dir).boxed()
    }

    fn copy<'a>(&'a self, from: &'a ObjectPath, to: &'a ObjectPath) -> BoxFuture<'a, Result<()>> {
        copy::copy(self, from, to).boxed()
    }

    fn rename<'a>(&'a self, from: &'a ObjectPath, to: &'a ObjectPath) -> BoxFuture<'a, Result<()>> {
        async move {
            copy::copy(self, from, to).await?;
            delete::one(self, from).await
        }
        .boxed()
    }

    fn delete<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<()>> {
        async move {
            // DELETE answers alike whether or not there was an object.
            self.head(path).await?;
            delete::one(self, path).await
        }
        .boxed()
    }

    fn delete_many<'a>(&'a self, paths: &'a [ObjectPath]) -> BoxFuture<'a, Result<DeleteReport>> {
        delete::many(self, paths).boxed()
    }

    fn purge<'a>(&'a self, dir: &'a ObjectPath) -> BoxFuture<'a, Result<u64>> {
        delete::purge(self, dir).boxed()
    }

    fn about(&self) -> BoxFuture<'_, Result<Space>> {
        let error = StorageError::Unsupported { what: "about", provider: PROVIDER.into() };
        async move { Err(error) }.boxed()
    }
}
