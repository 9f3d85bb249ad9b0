//! Whether nodes can use their locations, and what earlier checks left there (spec backup-format.md 1.6 and 3.2).
//!
//! A check has the agent write, list, read and delete a scratch object below a directory that is named after the
//! time. An agent that was killed in between leaves the object, so the next check looks for what is old enough to
//! belong to nobody. Nothing outside of this cluster's scratch directory is ever touched.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use common::api::agent::{ListOptions, ListRequest};
use common::ids::{ClusterId, RunId};
use common::location::Location;
use futures::TryStreamExt;
use tracing::info;

use super::error::{BackupError, HostFailure};
use super::properties::location_of;
use crate::agent_client::{Agent, AgentClient, HostError};
use crate::hosts::{Host, at_most};

/// Calls that are in flight at once.
const PARALLEL: usize = 16;

/// What the removal of leftovers may take: the check that waits for it says better what is wrong with a location.
const TIDY_LIMIT: Duration = Duration::from_secs(30);

/// Which locations are checked, and from where.
#[derive(Clone, Copy)]
pub struct AccessCheck<'a> {
    /// The cluster's agents. Failures of the moment are answered as patiently as this client is.
    pub client: &'a AgentClient,
    /// The cluster.
    pub cluster: ClusterId,
    /// Nodes that need access.
    pub hosts: &'a [Host],
    /// Locations of their datacenters.
    pub locations: &'a [Location],
    /// Now: the scratch directory bears it, and the age of leftovers is counted from it.
    pub now: DateTime<Utc>,
}

impl AccessCheck<'_> {
    /// Has each node write to, list, read and delete from its location.
    ///
    /// # Errors
    /// [`BackupError::NotAccessible`] with every node that cannot.
    pub async fn run(&self) -> Result<(), BackupError> {
        let checks = self.hosts.iter().map(|host| {
            let agent = self.client.on(host.address);
            async move {
                let location = location_of(self.locations, &host.dc)?;
                let scratch = format!("{}/{}", scratch_dir(self.cluster), RunId::at(self.now));
                let error = agent.check_permissions(&location.remote_path(&scratch)).await.err()?;
                Some(HostFailure { host: host.address, reason: reason(location, &error) })
            }
        });
        let mut failures: Vec<HostFailure> =
            at_most(PARALLEL, checks.collect()).await.into_iter().flatten().collect();
        failures.sort();
        if failures.is_empty() { Ok(()) } else { Err(BackupError::NotAccessible { failures }) }
    }

    /// Removes what checks left that began more than `ttl` ago, once for each datacenter; a zero `ttl` keeps all.
    ///
    /// A failure is only logged: leftovers of one byte do no harm, and the next check tries again.
    pub async fn remove_leftovers(&self, ttl: Duration) {
        let Some(oldest_kept) = chrono::Duration::from_std(ttl)
            .ok()
            .filter(|ttl| !ttl.is_zero())
            .and_then(|ttl| self.now.checked_sub_signed(ttl))
        else {
            return;
        };
        let mut first_of_dc: BTreeMap<&str, &Host> = BTreeMap::new();
        for host in self.hosts {
            first_of_dc.entry(&host.dc).or_insert(host);
        }
        let work = first_of_dc.into_iter().filter_map(|(dc, host)| {
            let location = location_of(self.locations, dc)?;
            Some(self.tidy(self.client.on(host.address), location, oldest_kept))
        });
        at_most(PARALLEL, work.collect()).await;
    }

    async fn tidy(&self, agent: Agent, location: &Location, oldest_kept: DateTime<Utc>) {
        let dir = location.remote_path(&scratch_dir(self.cluster));
        let outcome = tokio::time::timeout(TIDY_LIMIT, remove_older(&agent, &dir, oldest_kept)).await;
        let (cluster, host) = (self.cluster, agent.host());
        match outcome {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => {
                info!(%cluster, host, %location, removed, "Leftovers of access checks are removed")
            }
            Ok(Err(error)) => {
                let error = common::error::chain(&error);
                info!(%cluster, host, %location, error, "Leftovers of access checks stay for now");
            }
            Err(_) => {
                info!(%cluster, host, %location, limit = ?TIDY_LIMIT, "Leftovers of access checks stay for now")
            }
        }
    }
}

/// Directory of all scratch objects of a cluster.
fn scratch_dir(cluster: ClusterId) -> String {
    format!(".permission-check/cluster/{cluster}")
}

/// Removes the scratch directories that are older; whatever does not bear a time stays. Returns how many are gone.
async fn remove_older(agent: &Agent, dir: &str, oldest_kept: DateTime<Utc>) -> Result<usize, HostError> {
    let options =
        ListOptions { dirs_only: true, no_mod_time: true, no_mime_type: true, ..ListOptions::default() };
    let request = ListRequest { opt: options, ..ListRequest::default() };
    let mut items = agent.list_if_exists(dir, request).await?;
    let mut old = Vec::new();
    while let Some(item) = items.try_next().await? {
        let began = item.path.parse::<RunId>().ok().and_then(RunId::time);
        if began.is_some_and(|began| began < oldest_kept) {
            old.push(format!("{dir}/{}", item.path));
        }
    }
    let count = old.len();
    let removals = old.into_iter().map(|dir| async move { agent.purge(&dir).await });
    at_most(PARALLEL, removals.collect()).await.into_iter().collect::<Result<(), HostError>>()?;
    Ok(count)
}

/// The guide's words, the cause behind them, and how to find out more.
fn reason(location: &Location, error: &HostError) -> String {
    let text = error.reason();
    let cause = if text.contains("NoSuchBucket") { "specified bucket does not exist" } else { &text };
    format!(
        "failed to access {location} make sure that the location is correct and credentials are set: {cause}, to debug \
         SSH to {} and run \"scylla-manager-agent check-location -L {} --debug\"",
        error.host,
        location.without_dc()
    )
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::agent_client::tests::client_into;
    use crate::backup::testing::{BUCKET, FakeBucket};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
    }

    fn cluster() -> ClusterId {
        uuid::Uuid::from_u128(9).into()
    }

    fn hosts() -> Vec<Host> {
        [("192.0.2.11", "dc1"), ("192.0.2.12", "dc1"), ("192.0.2.21", "dc2")]
            .map(|(address, dc)| Host {
                id: common::ids::HostId::new(address),
                address: address.parse().unwrap(),
                dc: dc.into(),
                rack: "r1".into(),
            })
            .to_vec()
    }

    fn client(bucket: &FakeBucket) -> AgentClient {
        let router = bucket.router();
        client_into(&["192.0.2.11"], move |_| Some(router.clone())).interactive()
    }

    fn left_at(time: DateTime<Utc>) -> String {
        format!("{}/{}/scylla-manager-agent-1/test", scratch_dir(cluster()), RunId::at(time))
    }

    async fn tidy(bucket: &FakeBucket, ttl: Duration) {
        let (client, hosts, locations) = (client(bucket), hosts(), [FakeBucket::location()]);
        let check = AccessCheck {
            client: &client,
            cluster: cluster(),
            hosts: &hosts,
            locations: &locations,
            now: at(1000),
        };
        check.remove_leftovers(ttl).await;
    }

    #[tokio::test]
    async fn leftovers_go_when_they_are_older_than_the_limit() {
        let bucket = FakeBucket::default();
        let old = [left_at(at(0)), left_at(at(699))];
        let random = uuid::Uuid::from_u128(0x1234_5678_1234_4234_8234_1234_5678_1234);
        let kept = [
            left_at(at(700)),
            left_at(at(1000)),
            left_at(at(2000)),
            left_at(at(0)).replace(&cluster().to_string(), &ClusterId::NIL.to_string()),
            left_at(at(0)).replace(".permission-check", "permission-check"),
            format!("{}/{random}/scylla-manager-agent-1/test", scratch_dir(cluster())),
            format!("{}/mine/test", scratch_dir(cluster())),
            format!("{}/{}", scratch_dir(cluster()), RunId::at(at(0))),
            "scylla-manager-agent-1/test".to_owned(),
            format!("backup/meta/{}", RunId::at(at(0))),
        ];
        for key in old.iter().chain(&kept) {
            bucket.put(key, "1");
        }
        tidy(&bucket, Duration::ZERO).await;
        assert_eq!(bucket.keys().len(), old.len() + kept.len(), "0 keeps all");
        assert_eq!(bucket.take_calls(), [""; 0], "and looks for nothing");

        tidy(&bucket, Duration::from_secs(300)).await;
        assert_eq!(bucket.keys(), kept.iter().cloned().collect());
        let lists = bucket.take_calls().iter().filter(|call| call.ends_with("operations/list")).count();
        assert_eq!(lists, 2, "once for each datacenter");
    }

    #[tokio::test]
    async fn leftovers_that_cannot_be_listed_stay() {
        let bucket = FakeBucket::default();
        bucket.put(left_at(at(0)), "1");
        bucket.cut_listings(Some(".permission-check"));
        tidy(&bucket, Duration::from_secs(300)).await;
        assert_eq!(bucket.keys().len(), 1);
    }

    /// Runs a check over agents that answer with these statuses, one after the other, and then well.
    async fn check(statuses: &[u16], patient: bool) -> (Result<(), String>, usize) {
        let bucket = FakeBucket::default();
        for status in statuses {
            bucket.refuse_check(StatusCode::from_u16(*status).unwrap(), "operation put: x (code:Y)");
        }
        let (client, hosts, locations) = (client(&bucket), &hosts()[..1], [FakeBucket::location()]);
        let client =
            if patient { client.with_patience(crate::agent_client::Patience::Background) } else { client };
        let check =
            AccessCheck { client: &client, cluster: cluster(), hosts, locations: &locations, now: at(0) };
        (check.run().await.map_err(|e| e.to_string()), bucket.take_calls().len())
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_that_passes_fails_no_check_and_a_refusal_fails_it_at_once() {
        assert_eq!(check(&[503; 9], true).await, (Ok(()), 10), "a run waits");
        assert_eq!(check(&[503, 502], true).await, (Ok(()), 3));
        assert_eq!(check(&[504], false).await, (Ok(()), 2), "somebody who waits gets one more try");
        let (outcome, calls) = check(&[503, 503], false).await;
        assert!(
            outcome.unwrap_err().contains("set: giving up after 2 attempts: operation put: x (code:Y), to")
        );
        assert_eq!(calls, 2);
        for status in [400, 403, 404, 500, 501] {
            let (outcome, calls) = check(&[status], true).await;
            assert!(outcome.unwrap_err().contains("set: operation put: x (code:Y), to debug"), "{status}");
            assert_eq!(calls, 1, "{status}");
        }
    }

    #[tokio::test]
    async fn every_node_is_told_in_the_guides_words() {
        let bucket = FakeBucket::default();
        let (client, hosts) = (client(&bucket), hosts());
        let locations: [Location; 2] = ["dc2:s3:missing".parse().unwrap(), FakeBucket::location()];
        let mut check = AccessCheck {
            client: &client,
            cluster: cluster(),
            hosts: &hosts,
            locations: &locations,
            now: at(0),
        };
        assert_eq!(
            check.run().await.unwrap_err().to_string(),
            "location is not accessible: 192.0.2.21: failed to access dc2:s3:missing make sure that the location is \
             correct and credentials are set: specified bucket does not exist, to debug SSH to 192.0.2.21 and run \
             \"scylla-manager-agent check-location -L s3:missing --debug\""
        );
        check.locations = &locations[1..];
        check.run().await.unwrap();
        let scratch = format!("s3:{BUCKET} {}/", scratch_dir(cluster()));
        assert!(bucket.checked().iter().all(|place| {
            place.strip_prefix(&scratch).and_then(|id| id.parse::<RunId>().ok()).and_then(RunId::time)
                == Some(at(0))
        }));
        assert_eq!(bucket.checked().len(), 2 + 3, "those of dc1 twice");
    }
}
