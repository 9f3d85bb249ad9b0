//! Manager and agents are killed while a run stands at one request of each stage; the next run must mend everything.

use testbed::harness::{Bed, Deadline};
use testbed::s3::{Fault, Gate, RequestKind, Rule};

use crate::support::{HELD, config, small};

/// A request that a stage makes: name of the moment, kinds, key.
type Moment = (&'static str, &'static [RequestKind], &'static str);

const WRITE: &[RequestKind] = &[RequestKind::PutObject, RequestKind::CopyObject];

const MOMENTS: &[Moment] = &[
    ("temporary manifest", WRITE, "*_manifest.json.gz.tmp"),
    ("Scylla manifest", WRITE, "*/tag_*manifest.json"),
    ("schema file", WRITE, "backup/schema/*"),
    ("file of a table", WRITE, "*/keyspace/shop/*-TOC.txt"),
    ("published manifest", WRITE, "*_manifest.json.gz"),
    ("purge of files", &[RequestKind::DeleteObjects, RequestKind::DeleteObject], "backup/*"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Manager,
    Agents,
    Both,
}

/// Changes the data, starts the task, kills the victim at the moment, and brings everything back.
async fn crash_at(bed: &mut Bed, task: &str, moment: &Moment, victim: Victim) -> anyhow::Result<()> {
    let (name, kinds, key) = *moment;
    bed.cluster.write_rows("shop", "carts", 3)?;
    bed.cluster.flush("shop", "carts").await?;
    bed.cluster.compact("shop", "orders").await?;
    let gate = Gate::default();
    bed.faults().add(Rule::new(Fault::Hold(gate.clone())).on(kinds).key(key));
    bed.start_task(task).await?;
    assert!(gate.reached(1, HELD).await, "no request for a {name} came\n{}", bed.log_tails());
    if victim != Victim::Agents {
        bed.kill_manager()?;
    }
    if victim != Victim::Manager {
        (0..bed.cluster.nodes().len()).try_for_each(|agent| bed.kill_agent(agent))?;
    }
    gate.open();
    bed.faults().clear();
    if victim != Victim::Manager {
        for agent in 0..bed.cluster.nodes().len() {
            bed.start_agent(agent).await?;
        }
    }
    if victim != Victim::Agents {
        bed.start_manager().await?;
    }
    Ok(())
}

/// Waits for the end of what runs now; starts the task again, at most twice, until a run is DONE.
async fn settle(bed: &mut Bed, task: &str) -> anyhow::Result<()> {
    for _ in 0..3 {
        let runs = bed.api.history(&bed.name, task).await?.len();
        let ended = bed.api.wait_ended(&bed.name, task, runs, Deadline::seconds(180)).await?;
        match ended.status.as_str() {
            "DONE" => return bed.record_latest(task).await,
            // A restarted manager starts the next run by itself.
            "ABORTED" => drop(bed.api.wait_ended(&bed.name, task, runs + 1, Deadline::seconds(180)).await?),
            _ => bed.start_task(task).await?,
        }
    }
    anyhow::bail!("no run of {task} ends in DONE\n{}", bed.log_tails())
}

async fn crash_at_every_moment(victim: Victim) -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    let (task, _) = bed.backup(&["--retention", "1"]).await?;
    for moment in MOMENTS {
        crash_at(&mut bed, &task, moment, victim).await?;
        settle(&mut bed, &task).await?;
        bed.assert_invariants().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_manager_may_die_at_any_moment() -> anyhow::Result<()> {
    crash_at_every_moment(Victim::Manager).await
}

#[tokio::test]
async fn the_agents_may_die_at_any_moment() -> anyhow::Result<()> {
    crash_at_every_moment(Victim::Agents).await
}

#[tokio::test]
async fn all_may_die_together_at_any_moment() -> anyhow::Result<()> {
    crash_at_every_moment(Victim::Both).await
}
