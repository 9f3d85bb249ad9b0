//! A bucket that refuses, stumbles and forgets to answer: backups end well all the same, or leave what can be continued.

use serde_json::json;
use testbed::harness::Bed;
use testbed::s3::{Calls, Fault, RequestKind, Rule};

use crate::support::{config, small};

#[tokio::test]
async fn passing_trouble_does_not_fail_a_backup() -> anyhow::Result<()> {
    let mut config = config(small(2));
    config.agent = json!({"s3": {"upload_cutoff": "5M", "chunk_size": "5M"}});
    let mut bed = Bed::start(config).await?;
    let faults = bed.faults();
    faults.add(
        Rule::new(Fault::slow_down()).on(&[RequestKind::PutObject]).key("*/sst/*").calls(Calls::Every(5)),
    );
    faults
        .add(Rule::new(Fault::LostReply).on(&[RequestKind::PutObject]).key("*/sst/*").calls(Calls::Every(7)));
    faults.add(
        Rule::new(Fault::CutRequest(1000))
            .on(&[RequestKind::PutObject])
            .key("*-Data.db")
            .calls(Calls::First(2)),
    );
    faults.add(
        Rule::new(Fault::internal_error())
            .on(&[RequestKind::ListObjectsV2])
            .key("backup/*")
            .calls(Calls::Every(4)),
    );
    faults.add(
        Rule::new(Fault::CutReply(20))
            .on(&[RequestKind::ListObjectsV2])
            .key("backup/*")
            .calls(Calls::Every(6)),
    );
    // Agents check access without retries. The first one of these comes when the run looks at its location.
    faults.add(
        Rule::new(Fault::CutReply(20))
            .on(&[RequestKind::ListObjectsV2])
            .key("*/scylla-manager-agent-*")
            .calls(Calls::Every(5)),
    );
    faults.add(
        Rule::new(Fault::LostReply)
            .on(&[RequestKind::CopyObject, RequestKind::DeleteObjects])
            .calls(Calls::First(1)),
    );

    let (task, _) = bed.backup(&["--retention", "1"]).await?;
    bed.cluster.compact("shop", "carts").await?;
    bed.backup_again(&task, 2).await?;

    bed.faults().clear();
    bed.assert_invariants().await
}

#[tokio::test]
async fn a_bucket_that_becomes_read_only_ends_the_run_and_the_next_one_continues() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    let denied = Rule::new(Fault::access_denied())
        .on(&[RequestKind::PutObject])
        .key("*/keyspace/shop/*")
        .calls(Calls::From(5));
    bed.faults().add(denied);

    let task = bed.create_backup(&[]).await?;
    let ended = bed.run_ended(&task, 1).await?;
    assert_eq!(ended.status, "ERROR");
    assert!(ended.cause.contains("AccessDenied"), "{}", ended.cause);
    bed.assert_invariants_amid_run().await?;

    bed.faults().clear();
    bed.backup_again(&task, 2).await?;
    bed.assert_invariants().await
}

#[tokio::test]
async fn what_the_store_confirmed_and_lost_is_not_published() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    bed.faults().add(
        Rule::new(Fault::Forget)
            .on(&[RequestKind::PutObject])
            .key("*/keyspace/shop/*-Data.db")
            .calls(Calls::First(1)),
    );

    let task = bed.create_backup(&[]).await?;
    let ended = bed.run_ended(&task, 1).await?;
    assert_eq!(ended.status, "ERROR");
    for expected in ["/keyspace/shop/", "-Data.db is missing", "the next run starts from scratch"] {
        assert!(ended.cause.contains(expected), "{}", ended.cause);
    }
    let lost = bed.api.progress(&bed.name, &task).await?["snapshot_tag"].clone();
    let listed = bed.sctool_ok(&["backup", "list", "-c", "test"]).await?;
    assert!(!listed.contains("sm_"), "{listed}");
    bed.assert_invariants_amid_run().await?;

    let tag = bed.backup_again(&task, 2).await?;
    assert_ne!(lost, tag, "the snapshot is a new one");
    bed.assert_invariants().await
}
