//! What can go wrong in a backup.

use std::net::IpAddr;

use common::format::manifest::ManifestError;
use common::location::Location;
use common::task::Stage;

use super::location::LocationError;
use super::properties::PropertiesError;
use super::purge::PurgeError;
use super::tag::NoTagLeft;
use super::units::UnitsError;
use crate::agent_client::HostError;
use crate::cluster::ClusterError;
use crate::cluster::cql::CqlError;
use crate::store::StoreError;

/// A failed backup, listing or purge.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The run was asked to stop.
    #[error("task was stopped")]
    Stopped,
    /// A stage failed.
    #[error("{}", stage.error_prefix())]
    Stage {
        /// The stage.
        stage: Stage,
        /// Why.
        #[source]
        source: Box<BackupError>,
    },
    /// It is not clear what to back up.
    #[error("get backup target")]
    Target(#[source] Box<BackupError>),
    /// Hosts failed, each for its own reason.
    #[error("{}", failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Hosts {
        /// One per host.
        failures: Vec<HostFailure>,
    },
    /// A call to a host failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The cluster cannot be reached.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The properties are at fault.
    #[error(transparent)]
    Properties(#[from] PropertiesError),
    /// No table list.
    #[error(transparent)]
    Units(#[from] UnitsError),
    /// The schema cannot be read.
    #[error("back up schema")]
    Schema(#[source] CqlError),
    /// No node is left that could do it.
    #[error("no live nodes")]
    NoLiveNodes,
    /// No node of the selected datacenters answers.
    #[error("no live nodes: {}", failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    AllDown {
        /// One per node.
        failures: Vec<HostFailure>,
    },
    /// Nodes cannot use their location.
    #[error(
        "location is not accessible: {}",
        failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    NotAccessible {
        /// One per node.
        failures: Vec<HostFailure>,
    },
    /// The location refuses what a node uploads, and would refuse all else.
    #[error(
        "upload to {location}: {reason}, to debug SSH to {host} and run \"scylla-manager-agent check-location -L \
         {location} --debug\""
    )]
    Refused {
        /// The node.
        host: IpAddr,
        /// Its location, without a datacenter.
        location: Location,
        /// What the location said.
        reason: String,
    },
    /// Nodes of the run that goes on are down.
    #[error("missing hosts to resume backup: {0}")]
    MissingHosts(String),
    /// A manifest is damaged.
    #[error("{object}: unreadable manifest (see `sctool backup validate`)")]
    Manifest {
        /// Location and key.
        object: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// A location cannot be listed.
    #[error(transparent)]
    Location(Box<LocationError>),
    /// No tag is left for the new backup.
    #[error(transparent)]
    Tag(#[from] NoTagLeft),
    /// Retention could not delete everything.
    #[error(transparent)]
    Purge(Box<PurgeError>),
    /// The backup is complete, but files of it rotted on the disks of their nodes before (design 3.3).
    #[error(
        "the backup is complete, but these files were damaged on the disks of their nodes: {}; older backups of these \
         tables are kept; scrub the tables (nodetool scrub), or repair them from other replicas, then back up again",
        shown(files)
    )]
    BitRot {
        /// `<host>: <keyspace>.<table>: <file>`.
        files: Vec<String>,
    },
    /// Hosts of a run did not take a new rate limit, which is stored (`sctool backup control`).
    #[error(
        "the rate limit is stored, but hosts of the running backup do not have it yet, they get it when they answer \
         again: {}",
        failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    RateLimit {
        /// One per host.
        failures: Vec<HostFailure>,
    },
    /// Everything that needs no reaction but a person's.
    #[error("{0}")]
    Other(String),
}

/// Files that an error names; the number of all others follows.
const FILES_SHOWN: usize = 5;

/// The first few of a list, and how many more there are.
pub fn shown(list: &[String]) -> String {
    let first = list.iter().take(FILES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match list.len().saturating_sub(FILES_SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Why a host failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostFailure {
    /// The host.
    pub host: IpAddr,
    /// The whole chain of causes, without the host.
    pub reason: String,
}

impl std::fmt::Display for HostFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.host, self.reason)
    }
}

impl HostFailure {
    /// The failure of `host`, without naming it twice.
    pub fn new(host: IpAddr, error: &BackupError) -> Self {
        let reason = match error {
            BackupError::Host(error) if *error.host == *host.to_string() => error.reason(),
            other => common::error::chain(other),
        };
        Self { host, reason }
    }
}

impl From<LocationError> for BackupError {
    fn from(error: LocationError) -> Self {
        Self::Location(Box::new(error))
    }
}

impl From<PurgeError> for BackupError {
    fn from(error: PurgeError) -> Self {
        Self::Purge(Box::new(error))
    }
}

impl BackupError {
    /// An error in words.
    pub fn other(text: impl Into<String>) -> Self {
        Self::Other(text.into())
    }

    /// Whether the user can mend it by other properties.
    pub fn is_invalid(&self) -> bool {
        match self {
            Self::Properties(_) | Self::Units(_) | Self::NotAccessible { .. } => true,
            Self::Target(source) | Self::Stage { source, .. } => source.is_invalid(),
            Self::Stopped
            | Self::Hosts { .. }
            | Self::Host(_)
            | Self::Cluster(_)
            | Self::Store(_)
            | Self::Schema(_)
            | Self::NoLiveNodes
            | Self::AllDown { .. }
            | Self::Refused { .. }
            | Self::MissingHosts(_)
            | Self::Manifest { .. }
            | Self::Location(_)
            | Self::Tag(_)
            | Self::Purge(_)
            | Self::BitRot { .. }
            | Self::RateLimit { .. }
            | Self::Other(_) => false,
        }
    }

    /// Whether it is the user's stop.
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

/// All outcomes, or the failures of all hosts that failed. A stop on any host is a stop.
pub fn all_hosts<T>(
    outcomes: impl IntoIterator<Item = (IpAddr, Result<T, BackupError>)>,
) -> Result<Vec<(IpAddr, T)>, BackupError> {
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    for (host, outcome) in outcomes {
        match outcome {
            Ok(value) => done.push((host, value)),
            Err(BackupError::Stopped) => return Err(BackupError::Stopped),
            Err(error) => {
                tracing::error!(%host, error = common::error::chain(&error), "A host failed");
                failures.push(HostFailure::new(host, &error));
            }
        }
    }
    failures.sort();
    if failures.is_empty() { Ok(done) } else { Err(BackupError::Hosts { failures }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_and_hosts_are_named_once_and_in_order() {
        let failed = |text: &str| Err::<(), _>(BackupError::other(text));
        let hosts = all_hosts([
            ("192.0.2.12".parse().unwrap(), failed("disk full")),
            ("192.0.2.11".parse().unwrap(), failed("timeout")),
            ("192.0.2.13".parse().unwrap(), Ok(())),
        ]);
        let error = BackupError::Stage { stage: Stage::MoveManifest, source: Box::new(hosts.unwrap_err()) };
        assert_eq!(common::error::chain(&error), "move manifest: 192.0.2.11: timeout; 192.0.2.12: disk full");
    }
}
