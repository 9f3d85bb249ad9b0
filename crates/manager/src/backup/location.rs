//! What lies in a location: a host that can read it, the manifests of a cluster, the content of one.

use std::io::{self, Read};
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Buf, Bytes};
use common::api::agent::{ListOptions, ListRequest};
use common::format::manifest::{self, ManifestError, ManifestHeader, TableEntry, TableSize};
use common::format::paths::{self, ManifestPath};
use common::http_client::ClientError;
use common::ids::ClusterId;
use common::location::Location;
use futures::TryStreamExt;
use http::Method;
use tokio::sync::mpsc;

use super::retention::ListedManifest;
use crate::agent_client::{Agent, AgentClient, HostError};
use crate::cluster::topology::Member;

/// Pieces of a manifest on their way to the parser; an agent sends pieces of some 16 KiB.
const PIECES: usize = 8;

/// Limit for a first look through one host, the next one is asked after it.
const PROBE_LIMIT: Duration = Duration::from_secs(60);

/// Tables on their way from the parser.
const ENTRIES: usize = 16;

/// A location cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// No node may read it: none is up in its datacenter.
    #[error("no matching hosts found for location {0}: no node of its datacenter is up")]
    NoHosts(Location),
    /// Every node that was asked failed.
    #[error("no matching hosts found for location {location}: {reasons}")]
    Unreadable {
        /// The location.
        location: Location,
        /// `<host>: <reason>; ...`
        reasons: String,
    },
    /// A call failed later.
    #[error("location {location}")]
    Host {
        /// The location.
        location: Location,
        /// Which host, and why.
        #[source]
        source: HostError,
    },
}

/// A manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It did not arrive.
    #[error("read manifest {key}")]
    Host {
        /// Its remote path.
        key: String,
        /// Which host, and why.
        #[source]
        source: HostError,
    },
    /// It arrived and is damaged.
    #[error("manifest {key} is damaged")]
    Damaged {
        /// Its remote path.
        key: String,
        /// How.
        #[source]
        source: ManifestError,
    },
}

/// A way into a location: an agent that can read it.
#[derive(Clone)]
pub struct Reader {
    /// The agent.
    pub agent: Agent,
    /// The location, without a datacenter.
    pub location: Location,
}

/// The nodes whose agents may be asked about a location, nearest first.
pub fn candidates(client: &AgentClient, members: &[Member], location: &Location) -> Vec<IpAddr> {
    let fits = |member: &&Member| member.up && location.dc().is_none_or(|dc| dc == member.host.dc);
    let fitting: Vec<IpAddr> = members.iter().filter(fits).map(|m| m.host.address).collect();
    client.hosts().iter().copied().filter(|host| fitting.contains(host)).collect()
}

/// Finds the first node that can list a location.
///
/// # Errors
/// None can; the message holds what each said.
pub async fn open(
    client: &AgentClient,
    members: &[Member],
    location: &Location,
) -> Result<Reader, LocationError> {
    let hosts = candidates(client, members, location);
    if hosts.is_empty() {
        return Err(LocationError::NoHosts(location.clone()));
    }
    let mut failed = Vec::new();
    for host in hosts {
        let agent = client.on(host);
        match probe(&agent, location).await {
            Ok(()) => return Ok(Reader { agent, location: location.without_dc() }),
            Err(error) => failed.push(error),
        }
    }
    let reasons = crate::agent_client::join_hosts(&failed);
    Err(LocationError::Unreadable { location: location.clone(), reasons })
}

/// Lists the top of the location: what is read afterwards is below it. A location without any backup may have no
/// such directory; then the location itself must be there.
async fn probe(agent: &Agent, location: &Location) -> Result<(), HostError> {
    let look = async {
        match look_at(agent, &location.remote_path("backup")).await {
            Err(error) if error.is_not_found() => look_at(agent, &location.bucket_key()).await,
            outcome => outcome,
        }
    };
    let host = agent.host().to_owned();
    let slow = |_| {
        let url = location.bucket_key();
        HostError::new(&host, ClientError::Timeout { method: Method::POST, url, timeout: PROBE_LIMIT })
    };
    tokio::time::timeout(PROBE_LIMIT, look).await.map_err(slow)?
}

async fn look_at(agent: &Agent, dir: &str) -> Result<(), HostError> {
    let options = ListOptions { no_mod_time: true, no_mime_type: true, ..ListOptions::default() };
    let mut items = agent.list(dir, ListRequest { opt: options, ..ListRequest::default() }).await?;
    while items.try_next().await?.is_some() {}
    Ok(())
}

impl Reader {
    /// All manifests of one cluster, or of every cluster; ordered by cluster, task, tag and node. Whatever does
    /// not look like a manifest is passed over.
    ///
    /// # Errors
    /// The listing failed or ended early.
    pub async fn manifests(&self, cluster: Option<ClusterId>) -> Result<Vec<ListedManifest>, LocationError> {
        let dir = cluster.map_or_else(|| paths::META_DIR.to_owned(), paths::cluster_meta_dir);
        let failed = |source| LocationError::Host { location: self.location.clone(), source };
        let options = ListOptions {
            recurse: true,
            files_only: true,
            no_mod_time: true,
            no_mime_type: true,
            ..ListOptions::default()
        };
        let request = ListRequest { opt: options, ..ListRequest::default() };
        let remote = self.location.remote_path(&dir);
        let mut items = self.agent.list_if_exists(&remote, request).await.map_err(failed)?;
        let mut found = Vec::new();
        while let Some(item) = items.try_next().await.map_err(failed)? {
            let key = format!("{dir}/{}", item.path);
            if let Some(path) = ManifestPath::parse(&key) {
                let protected = item.event_based_hold || !item.retention_mode.is_empty();
                found.push(ListedManifest { location: self.location.clone(), path, key, protected });
            }
        }
        found.sort_by_key(order);
        Ok(found)
    }

    /// Reads a manifest table by table; nobody holds more than one table of it.
    ///
    /// # Errors
    /// It does not arrive or is damaged; tables before the damage have been handed out.
    pub async fn read(
        &self,
        manifest: &ListedManifest,
        on_entry: impl FnMut(TableEntry),
    ) -> Result<ManifestHeader, ReadError> {
        read_manifest(&self.agent, &self.location.remote_path(&manifest.key), on_entry).await
    }

    /// Reads which tables are in a manifest and their sizes, see [`manifest::read_sizes`].
    ///
    /// # Errors
    /// As for [`Reader::read`].
    pub async fn read_sizes(
        &self,
        manifest: &ListedManifest,
        on_table: impl FnMut(TableSize),
    ) -> Result<ManifestHeader, ReadError> {
        let parse = |source, sink: &mut dyn FnMut(TableSize)| manifest::read_sizes(source, sink);
        stream_manifest(&self.agent, &self.location.remote_path(&manifest.key), parse, on_table).await
    }
}

fn order(m: &ListedManifest) -> impl Ord + use<> {
    let path = &m.path;
    (path.node.cluster, path.task, path.tag, path.node.node.clone(), path.temporary)
}

/// Reads a manifest through an agent, see [`Reader::read`].
///
/// # Errors
/// It does not arrive or is damaged.
pub async fn read_manifest(
    agent: &Agent,
    remote: &str,
    on_entry: impl FnMut(TableEntry),
) -> Result<ManifestHeader, ReadError> {
    let parse = |source, sink: &mut dyn FnMut(TableEntry)| manifest::read(source, sink);
    stream_manifest(agent, remote, parse, on_entry).await
}

/// Has `parse` take a manifest apart as it arrives, on a thread of its own.
async fn stream_manifest<T: Send + 'static>(
    agent: &Agent,
    remote: &str,
    parse: impl FnOnce(Pieces, &mut dyn FnMut(T)) -> Result<ManifestHeader, ManifestError> + Send + 'static,
    mut on_entry: impl FnMut(T),
) -> Result<ManifestHeader, ReadError> {
    let failed = |source| ReadError::Host { key: remote.to_owned(), source };
    let mut body = agent.cat_stream(remote).await.map_err(failed)?;
    let (pieces, incoming) = mpsc::channel::<Bytes>(PIECES);
    let (entries, mut outgoing) = mpsc::channel::<T>(ENTRIES);
    // Unpacking and parsing are work for a thread that may block. It ends when either side goes away.
    let parser = tokio::task::spawn_blocking(move || {
        let source = Pieces { incoming, current: Bytes::new() };
        parse(source, &mut |entry| {
            // Nobody listens any more: the reader was dropped, and so will be the result.
            let _ = entries.blocking_send(entry);
        })
    });
    let feed = async {
        // A parser that gave up takes no more; its own error says why.
        while let Some(piece) = body.try_next().await? {
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(pieces);
        Ok::<_, HostError>(())
    };
    let drain = async {
        while let Some(entry) = outgoing.recv().await {
            on_entry(entry);
        }
    };
    let (fed, (), parsed) = tokio::join!(feed, drain, parser);
    fed.map_err(failed)?;
    let damaged = |source| ReadError::Damaged { key: remote.to_owned(), source };
    parsed.map_err(|e| damaged(ManifestError::Read(io::Error::other(e))))?.map_err(damaged)
}

/// Pieces that arrive on a channel, as a reader for a blocking thread.
struct Pieces {
    incoming: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.incoming.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
