//! Which host to ask when any will do: usually the one that answers fastest, now and then another, so that a
//! host which got better is noticed (epsilon-greedy, spec manager.md 5.1).
//!
//! Memory is one small entry per host. Hosts without a fresh measurement are tried first, in the given order.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;
use tokio::time::Instant;

/// Share of picks that ignore the measurements.
const EXPLORE: f64 = 0.1;

/// Weight of the newest measurement in the running average.
const NEWEST: f64 = 0.3;

/// What a failure counts as: worse than any answer within the usual time limit.
const PENALTY: Duration = Duration::from_secs(60);

/// The hosts of a cluster with their response times.
pub(super) struct HostPool {
    hosts: Vec<IpAddr>,
    decay: Duration,
    measured: Mutex<Vec<Option<Measured>>>,
}

#[derive(Clone, Copy)]
struct Measured {
    average: f64,
    at: Instant,
}

impl HostPool {
    pub(super) fn new(hosts: Vec<IpAddr>, decay: Duration) -> Self {
        let measured = Mutex::new(vec![None; hosts.len()]);
        Self { hosts, decay, measured }
    }

    pub(super) fn hosts(&self) -> &[IpAddr] {
        &self.hosts
    }

    /// All hosts in the order in which they are to be asked.
    pub(super) fn order(&self, rng: &mut impl Rng) -> Vec<IpAddr> {
        let scores = self.scores();
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        if rng.random_bool(EXPLORE) {
            order.shuffle(rng);
            // Not even by chance first to a host that just failed, if there is a better one.
            order.sort_by_key(|i| scores[*i] >= PENALTY.as_secs_f64() * NEWEST);
        } else {
            order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        }
        order.into_iter().map(|i| self.hosts[i]).collect()
    }

    /// Seconds per host; 0 where nothing fresh is known.
    fn scores(&self) -> Vec<f64> {
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh =
            |m: &Option<Measured>| m.filter(|m| m.at.elapsed() <= self.decay).map_or(0.0, |m| m.average);
        measured.iter().map(fresh).collect()
    }

    /// Notes how long a host took to answer.
    pub(super) fn answered(&self, host: IpAddr, took: Duration) {
        self.record(host, took.as_secs_f64());
    }

    /// Notes that a host did not answer well.
    pub(super) fn failed(&self, host: IpAddr) {
        self.record(host, PENALTY.as_secs_f64());
    }

    fn record(&self, host: IpAddr, seconds: f64) {
        let Some(index) = self.hosts.iter().position(|h| *h == host) else { return };
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let average = match measured[index].filter(|m| m.at.elapsed() <= self.decay) {
            Some(old) => old.average * (1.0 - NEWEST) + seconds * NEWEST,
            None => seconds,
        };
        measured[index] = Some(Measured { average, at: Instant::now() });
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn pool() -> HostPool {
        let hosts = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].iter().map(|h| h.parse().unwrap()).collect();
        HostPool::new(hosts, Duration::from_secs(1800))
    }

    fn firsts(pool: &HostPool) -> [usize; 3] {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut count = [0; 3];
        for _ in 0..1000 {
            let first = pool.order(&mut rng)[0];
            count[pool.hosts().iter().position(|h| *h == first).unwrap()] += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn the_fastest_host_is_asked_first_most_of_the_time() {
        let pool = pool();
        for (host, ms) in [(0, 50), (1, 5), (2, 500)] {
            pool.answered(pool.hosts()[host], Duration::from_millis(ms));
        }
        let count = firsts(&pool);
        assert!(count[1] > 900 && count[0] > 10 && count[2] > 10, "{count:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_host_comes_last_until_its_failure_is_old() {
        let pool = pool();
        pool.answered(pool.hosts()[1], Duration::from_millis(5));
        pool.answered(pool.hosts()[2], Duration::from_millis(5));
        pool.failed(pool.hosts()[0]);
        assert_eq!(firsts(&pool)[0], 0);
        tokio::time::advance(Duration::from_secs(1801)).await;
        assert!(firsts(&pool)[0] > 900);
    }
}
