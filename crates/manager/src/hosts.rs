//! Work on many hosts at once, with limits per datacenter.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;

use common::ids::HostId;
use common::units::DcLimit;
use futures::StreamExt;
use futures::stream;

/// A node as the manager addresses it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// Scylla's host ID.
    pub id: HostId,
    /// Where its agent listens; what people see.
    pub address: IpAddr,
    /// Datacenter.
    pub dc: String,
    /// Rack.
    pub rack: String,
}

/// Runs `work` on each host and returns every outcome.
///
/// At most as many hosts of a datacenter are at work at once as `limits` allows for it; 0 or no entry means all
/// of them. One failing host does not stop the others. Nothing is spawned: dropping the returned future drops
/// all work in flight, and `work` may borrow from its caller.
pub async fn on_hosts<T, E, F>(
    hosts: &[Host],
    limits: &[DcLimit],
    work: impl Fn(Host) -> F,
) -> BTreeMap<HostId, Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut datacenters: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
    for host in hosts {
        datacenters.entry(&host.dc).or_default().push(host);
    }
    let work = &work;
    let streams = datacenters.into_iter().map(|(dc, hosts)| {
        let limit = match DcLimit::for_dc(limits, dc) {
            None | Some(0) => hosts.len(),
            Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX).min(hosts.len()),
        };
        let one = move |host: Host| {
            let (id, outcome) = (host.id.clone(), work(host));
            async move { (id, outcome.await) }
        };
        stream::iter(hosts.into_iter().cloned()).map(one).buffer_unordered(limit)
    });
    stream::select_all(streams).collect().await
}

/// Awaits futures, at most `limit` of them at a time, and returns what they bring in the order of their ends.
///
/// Takes the futures and not a closure over borrowed values: such a closure in a stream makes a future that the
/// compiler cannot prove to be `Send`.
pub async fn at_most<F: Future>(limit: usize, work: Vec<F>) -> Vec<F::Output> {
    stream::iter(work).buffer_unordered(limit.max(1)).collect().await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;

    fn hosts(per_dc: usize) -> Vec<Host> {
        let host = |dc: &str, i: usize| Host {
            id: HostId::new(format!("{dc}-{i}")),
            address: "192.0.2.1".parse().unwrap(),
            dc: dc.to_owned(),
            rack: "r1".to_owned(),
        };
        (0..per_dc).flat_map(|i| [host("a", i), host("b", i)]).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn limits_hold_per_datacenter_and_every_outcome_is_returned() {
        let limits: Vec<DcLimit> = ["a:2", "3"].iter().map(|l| l.parse().unwrap()).collect();
        let busy: RefCell<BTreeMap<String, (usize, usize)>> = RefCell::default();
        let outcomes = on_hosts(&hosts(10), &limits, |host| {
            let busy = &busy;
            async move {
                {
                    let mut busy = busy.borrow_mut();
                    let (now, most) = busy.entry(host.dc.clone()).or_default();
                    *now += 1;
                    *most = (*most).max(*now);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                busy.borrow_mut().entry(host.dc.clone()).or_default().0 -= 1;
                if host.id.as_str() == "b-3" { Err("broken") } else { Ok(()) }
            }
        })
        .await;
        assert_eq!(outcomes.len(), 20);
        assert_eq!(outcomes.values().filter(|o| o.is_err()).count(), 1);
        let busy = busy.into_inner();
        assert_eq!((busy["a"].1, busy["b"].1), (2, 3));
    }

    #[tokio::test]
    async fn no_hosts_no_work() {
        let outcomes = on_hosts(&[], &[], |_| async { Ok::<_, ()>(()) }).await;
        assert!(outcomes.is_empty());
    }
}
