//! Pause and resume: a stopped backup goes on where it was, or from the beginning if that is wanted.

use serde_json::json;
use testbed::cluster::{ClusterBuilder, KeyspaceSpec, TableSpec};
use testbed::harness::{Bed, Deadline, wait_for};
use testbed::s3::{Fault, RequestKind, Rule};

use crate::support::{HELD, config, hold_uploads, small};

const MIB: u64 = 1 << 20;
const PART: u64 = 5 * MIB;
const TRANSFERS: u64 = 2;
const ENDED: Deadline = Deadline::seconds(20);

#[tokio::test]
async fn at_most_one_part_of_each_transfer_is_sent_again() -> anyhow::Result<()> {
    let photos = TableSpec::new("photos").sstables(3).data_size(20 * MIB);
    let shop = KeyspaceSpec::new("shop").table(photos);
    let mut config = config(ClusterBuilder::new().dc("dc1", 1).keyspace(shop));
    config.agent = json!({"s3": {"upload_cutoff": "5M", "chunk_size": "5M", "upload_concurrency": 1}});
    let mut bed = Bed::start(config).await?;
    let received = |bed: &Bed| bed.counters().of(RequestKind::UploadPart).bytes_in;
    let sent = |bed: &Bed| bed.counters().of(RequestKind::UploadPart).requests;
    let arrived = |bed: &Bed| {
        let log = bed.counters().log();
        log.iter().filter(|r| r.kind == RequestKind::UploadPart && r.status == 200).count() as u64
    };
    // Slow enough that the stop comes while parts are on their way.
    bed.faults().add(Rule::new(Fault::Throttle(4 * MIB)).on(&[RequestKind::UploadPart]));
    let task = bed.create_backup(&["--transfers", &TRANSFERS.to_string()]).await?;
    let few = Deadline::seconds(60);
    wait_for("the upload of a few parts", few, async || Ok((arrived(&bed) >= 3).then_some(()))).await?;

    bed.sctool_ok(&["stop", "-c", "test", &task]).await?;
    bed.api.wait_status(&bed.name, &task, "STOPPED", ENDED).await?;
    let tag = bed.api.progress(&bed.name, &task).await?["snapshot_tag"].clone();
    bed.assert_invariants_amid_run().await?;
    let (arrived, before) = (arrived(&bed), sent(&bed));
    bed.faults().clear();
    bed.sctool_ok(&["start", "-c", "test", &task]).await?;
    assert_eq!(bed.run_done(&task, 2).await?, tag, "the snapshot is the same");

    let contents = bed.s3.contents(&bed.bucket).await?;
    let large: Vec<u64> =
        contents.objects.values().map(|object| object.size).filter(|s| *s >= PART).collect();
    let parts: u64 = large.iter().map(|size| size.div_ceil(PART)).sum();
    assert!(parts >= 12 && arrived < parts, "{arrived} of {parts} parts before the stop");
    let after = sent(&bed) - before;
    assert!(after <= parts - arrived, "{arrived} of {parts} had arrived, and {after} were sent");
    let again = received(&bed) - large.iter().sum::<u64>();
    assert!(again <= TRANSFERS * PART, "{again} bytes were sent again");
    bed.assert_invariants().await
}

#[tokio::test]
async fn without_continue_it_starts_from_scratch() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(1))).await?;
    let gate = hold_uploads(&bed);
    let task = bed.create_backup(&[]).await?;
    assert!(gate.reached(1, HELD).await, "no upload began\n{}", bed.log_tails());
    bed.sctool_ok(&["stop", "-c", "test", &task]).await?;
    bed.api.wait_status(&bed.name, &task, "STOPPED", ENDED).await?;
    let stopped = bed.api.progress(&bed.name, &task).await?["snapshot_tag"].clone();
    gate.open();
    bed.cluster.write_rows("shop", "carts", 3)?;
    bed.cluster.flush("shop", "carts").await?;

    bed.sctool_ok(&["start", "-c", "test", &task, "--no-continue"]).await?;
    let tag = bed.run_done(&task, 2).await?;

    assert_ne!(tag, stopped, "a new snapshot");
    // The ledger of the bed knows what was written after the stop: the new backup must hold it.
    bed.assert_invariants().await
}
