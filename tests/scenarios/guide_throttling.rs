//! Throttling: which limits reach which nodes, and when. `testbed bench throttling` measures what they do.

use testbed::cluster::{ClusterBuilder, KeyspaceSpec};
use testbed::harness::Bed;

use crate::support::{HELD, config, hold_uploads};

async fn bed() -> anyhow::Result<Bed> {
    let shop = KeyspaceSpec::new("shop").table("carts").table("orders");
    Bed::start(config(ClusterBuilder::new().dc("dc1", 1).dc("dc2", 1).keyspace(shop))).await
}

/// Limits of the nodes of `dc1` and `dc2`, as their agents tell them.
async fn limits(bed: &Bed) -> anyhow::Result<[String; 2]> {
    Ok([bed.agent_api(0)?.rate_limit().await?, bed.agent_api(1)?.rate_limit().await?])
}

async fn control(bed: &Bed, task: &str, limits: &str) -> anyhow::Result<()> {
    let printed = bed.sctool_ok(&["backup", "control", "-c", "test", task, "--rate-limit", limits]).await?;
    assert_eq!(printed, "");
    let info = bed.sctool_ok(&["info", "-c", "test", task]).await?;
    assert!(info.contains(&format!("- rate-limit: '{limits}'\n")), "{info}");
    Ok(())
}

async fn new_data(bed: &Bed) -> anyhow::Result<()> {
    bed.cluster.write_rows("shop", "carts", 3)?;
    Ok(bed.cluster.flush("shop", "carts").await?)
}

#[tokio::test]
async fn each_datacenter_gets_its_own_limit() -> anyhow::Result<()> {
    let mut bed = bed().await?;
    assert_eq!(limits(&bed).await?, ["off", "off"]);
    let (task, _) = bed.backup(&["--rate-limit", "dc1:50,100", "--transfers", "3"]).await?;
    assert_eq!(limits(&bed).await?, ["50M", "100M"]);
    for agent in 0..2 {
        assert_eq!(bed.agent_api(agent)?.transfers().await?, 3);
    }

    // Without a run the limit is kept for the next one.
    control(&bed, &task, "dc2:30,0").await?;
    assert_eq!(limits(&bed).await?, ["50M", "100M"]);
    new_data(&bed).await?;
    bed.backup_again(&task, 2).await?;
    assert_eq!(limits(&bed).await?, ["off", "30M"]);

    // A task without limits does not inherit those of another.
    new_data(&bed).await?;
    bed.backup(&[]).await?;
    assert_eq!(limits(&bed).await?, ["off", "off"]);
    assert_eq!(bed.agent_api(0)?.transfers().await?, 2, "the agent's own setting");
    bed.assert_invariants().await
}

#[tokio::test]
async fn a_running_backup_is_throttled_at_once() -> anyhow::Result<()> {
    let mut bed = bed().await?;
    let gate = hold_uploads(&bed);
    let task = bed.create_backup(&["--rate-limit", "50"]).await?;
    assert!(gate.reached(2, HELD).await, "no upload began\n{}", bed.log_tails());

    control(&bed, &task, "dc1:7,9").await?;
    assert_eq!(limits(&bed).await?, ["7M", "9M"], "when the command ends, the agents have it");
    assert!(gate.reached(2, HELD).await, "the transfers go on");

    gate.open();
    bed.run_done(&task, 1).await?;
    assert_eq!(limits(&bed).await?, ["7M", "9M"], "the jobs of later tables do not bring the old one back");
    bed.assert_invariants().await
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_named_and_gets_the_limit_later() -> anyhow::Result<()> {
    let mut bed = bed().await?;
    let gate = hold_uploads(&bed);
    let task = bed.create_backup(&["--rate-limit", "50"]).await?;
    assert!(gate.reached(2, HELD).await, "no upload began\n{}", bed.log_tails());

    bed.kill_agent(1)?;
    let arguments = ["backup", "control", "-c", "test", &task, "--rate-limit", "9"];
    let refused = bed.sctool(&arguments).await?;
    let host = bed.cluster.nodes()[1].address();
    assert_eq!(refused.code, 1, "{refused:?}");
    for words in
        ["the rate limit is stored", &format!("{host}: giving up after 2 attempts, agent not reachable")]
    {
        assert!(refused.stderr.contains(words), "{words} is not in {refused:?}");
    }
    assert_eq!(bed.agent_api(0)?.rate_limit().await?, "9M", "the other node has it");
    let info = bed.sctool_ok(&["info", "-c", "test", &task]).await?;
    assert!(info.contains("- rate-limit: '9'\n"), "{info}");

    bed.start_agent(1).await?;
    gate.open();
    bed.run_done(&task, 1).await?;
    assert_eq!(limits(&bed).await?, ["9M", "9M"]);
    bed.assert_invariants().await
}
