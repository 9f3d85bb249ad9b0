//! The rate limit on a real connection.

use std::time::Instant;

use common::api::agent::JobStatus;
use scylla_manager_agent::config::S3Provider;
use testbed::s3::RequestKind;

use crate::support::{MIB, Rig, bytes, wait_until};

#[tokio::test]
async fn the_rate_limit_holds_and_can_be_lifted() {
    let rig = Rig::new(S3Provider::Aws).await;
    (0..8).for_each(|i| rig.file(&format!("f{i}"), bytes(i, MIB)));
    rig.engine.limits().set("4M".parse().unwrap());
    let start = Instant::now();
    rig.upload().await;
    let took = start.elapsed().as_secs_f64();
    // Never faster; how much slower depends on what else the machine does.
    assert!(took >= 1.8, "8 MiB at 4 MiB/s took {took} s");

    (0..8).for_each(|i| rig.file(&format!("g{i}"), bytes(i, MIB)));
    rig.engine.limits().set("1k".parse().unwrap());
    let job = rig.start(rig.movedir());
    wait_until(|| rig.requests(RequestKind::ListObjectsV2) == 2).await;
    rig.engine.limits().set("off".parse().unwrap());
    // At the first rate it would take more than two hours.
    assert_eq!(rig.end(job).await.status, JobStatus::Success);
}
