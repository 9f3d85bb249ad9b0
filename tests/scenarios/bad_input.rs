//! Bad input: a message that names the value, the host and the remedy, exit status 1, nothing half-created.

use testbed::cluster::{ClusterBuilder, KeyspaceSpec, TableSpec};
use testbed::harness::{AUTH_TOKEN, Bed, BedConfig, Deadline, SctoolRun, wait_for};
use testbed::node::DiskFault;
use testbed::node::faults::{Action, Rule as NodeRule};
use testbed::s3::{Calls, Fault, RequestKind, Rule};

use crate::support::{HELD, config, config_with_own_s3, hold_uploads, small};

/// Exit status 1, nothing on stdout, an error that holds all of `parts`.
fn assert_refused(run: &SctoolRun, parts: &[&str]) {
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    let error = run.stderr.split_once("Error: ").unwrap_or_else(|| panic!("no error: {run:?}")).1;
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in\n{error}");
    }
    assert!(run.stderr.ends_with("\n\n"), "an empty line follows: {run:?}");
}

#[tokio::test]
async fn each_flag_with_a_wrong_value_is_named() -> anyhow::Result<()> {
    let shop = KeyspaceSpec::new("shop").table("carts");
    let bed = Bed::start(config_with_own_s3(ClusterBuilder::new().dc("dc1", 1).dc("dc2", 1).keyspace(shop)))
        .await?;
    let uuid = "3208ff15-6e8f-48b2-875c-d3c73f545410";
    for (flag, value, parts) in [
        (
            "-L",
            "backups",
            &["\"backups\" for \"-L, --location\"", "the format is [dc:]<provider>:<path>"][..],
        ),
        ("-L", "ftp:backups", &["unrecognised provider \"ftp\""]),
        ("-L", "dc9:s3:backups", &["invalid location: no such datacenter dc9", "sctool status"]),
        (
            "-L",
            "dc1:s3:backups",
            &["missing object for datacenter dc2", "--location dc2:<provider>:<bucket>"],
        ),
        ("--dc", "dc9", &["no matching DCs found for filters [\"dc9\"]", "the cluster has dc1, dc2"]),
        ("-K", "shpo", &["no keyspace matched criteria [\"shpo\"]", "--dry-run --show-tables"]),
        ("-K", ".carts", &["\".carts\" on position 0: missing keyspace"]),
        ("-K", "shop.[a", &["invalid glob \"shop.[a\" on position 0"]),
        ("--rate-limit", "fast", &["\"fast\" for \"--rate-limit\"", "the format is [dc:]<number>"]),
        ("--rate-limit", "dc9:5", &["invalid rate-limit: no such datacenter dc9"]),
        ("--snapshot-parallel", "dc9:5", &["invalid snapshot-parallel: no such datacenter dc9"]),
        ("--upload-parallel", "-1", &["invalid limit \"-1\""]),
        ("--retention", "many", &["\"many\" for \"--retention\""]),
        ("--retention", "-1", &["negative retention"]),
        ("--transfers", "0", &["transfers param has to be equal to -1"]),
        ("--method", "fast", &["unknown Method: fast"]),
        ("-s", "yesterday", &["\"yesterday\" for \"-s, --start-date\"", "now+3h"]),
        ("-i", "5x", &["\"5x\" for \"-i, --interval\"", "unknown unit x"]),
        ("--cron", "30 25 * * *", &["\"30 25 * * *\" for \"--cron\"", "above maximum (23)"]),
        ("--window", "SAT-25:00,SUN-02:00", &["window: invalid hour 25"]),
        ("--window", "SAT,SUN", &["window: weekday \"Sat\" without a time"]),
        ("--timezone", "Mars/Base", &["Mars/Base"]),
        ("--num-retries", "few", &["\"few\" for \"-r, --num-retries\""]),
        ("--name", uuid, &["name cannot be an UUID"]),
        ("--label", "a=b=c", &["unknown label spec", "a=b=c"]),
        ("--retention-lock-mode", "locked", &["retention lock is not supported for s3 provider"]),
        ("--colour", "red", &["unknown flag: --colour"]),
    ] {
        // Given twice, locations add up: a wrong one must be seen beside a good one.
        let location = if flag == "-L" { &[][..] } else { &["-L", "s3:backups"] };
        let run = bed.sctool(&[&["backup", "-c", "test"], location, &[flag, value]].concat()).await?;
        assert_refused(&run, parts);
    }
    assert_eq!(bed.sctool_ok(&["tasks", "-c", "test", "-t", "backup", "--all"]).await?, "");
    assert_eq!(bed.keys().await?, Vec::<String>::new());

    // One pattern of several: the backup is made, but not in silence.
    let command = ["backup", "-c", "test", "-L", "s3:backups", "-K", "shop,shpo.carts", "--dry-run"];
    let run = bed.sctool(&command).await?;
    assert!(
        run.code == 0 && run.stderr.contains("WARNING! --keyspace \"shpo.carts\" matches no table"),
        "{run:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_cluster_is_added_whole_or_not_at_all() -> anyhow::Result<()> {
    let mut bed = Bed::start(BedConfig { register: false, ..config(small(2)) }).await?;
    let (host, port) = (bed.cluster.nodes()[0].address().to_string(), bed.agent_port().to_string());
    let add = |host, port, token, more: &[&'static str]| {
        let mut all =
            vec!["cluster", "add", "--host", host, "--port", port, "--auth-token", token, "--name", "test"];
        all.extend(more);
        all.into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    let sctool = async |arguments: Vec<String>| {
        bed.sctool(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    for (arguments, parts) in [
        (add(&host, &port, "guess", &[]), vec![host.as_str(), "unauthorized", "--auth-token"]),
        (add("127.0.0.1", &port, AUTH_TOKEN, &[]), vec!["127.0.0.1", "Connection refused", &port]),
        (
            add("no.such.host.invalid", &port, AUTH_TOKEN, &[]),
            vec!["no.such.host.invalid", "cannot be resolved"],
        ),
        (add(&host, "1", AUTH_TOKEN, &[]), vec![host.as_str(), "port 1 is open"]),
        (add(&host, &port, AUTH_TOKEN, &["--username", "scylla"]), vec!["missing flag \"password\""]),
    ] {
        assert_refused(&sctool(arguments).await?, &parts);
    }
    assert_eq!(sctool(vec!["tasks".to_owned()]).await?.stdout, "", "no cluster, no task");

    bed.kill_agent(1)?;
    let other = bed.cluster.nodes()[1].address().to_string();
    let run = bed
        .sctool(&add(&host, &port, AUTH_TOKEN, &[]).iter().map(String::as_str).collect::<Vec<_>>())
        .await?;
    assert_refused(&run, &["connectivity check", &other, "Connection refused"]);
    assert_eq!(bed.sctool_ok(&["cluster", "list", "-o", "json"]).await?.matches("\"id\"").count(), 0);
    bed.start_agent(1).await?;

    let good = add(&host, &port, AUTH_TOKEN, &[]);
    let good: Vec<&str> = good.iter().map(String::as_str).collect();
    bed.sctool_ok(&good).await?;
    let again = bed.sctool(&good).await?;
    assert_refused(&again, &["name \"test\" is already taken, choose another one with --name"]);
    assert_eq!(bed.sctool_ok(&["cluster", "list", "-o", "json"]).await?.matches("\"id\"").count(), 1);
    Ok(())
}

#[tokio::test]
async fn what_the_object_store_refuses_is_named_with_its_remedy() -> anyhow::Result<()> {
    let bed = Bed::start(config(small(1))).await?;
    let host = bed.cluster.nodes()[0].address().to_string();
    let location = bed.location();
    let dry_run = ["backup", "-c", "test", "-L", &location, "--dry-run"];
    for (status, code, remedy) in REFUSALS {
        let rule = bed.faults().add(Rule::new(Fault::Status { status, code, retry_after: None }));
        let run = bed.sctool(&dry_run).await?;
        bed.faults().remove(rule);
        assert_refused(&run, &[&host, &location, code, remedy]);
    }
    assert_eq!(bed.sctool_ok(&["tasks", "-c", "test", "-t", "backup", "--all"]).await?, "");
    assert_eq!(bed.keys().await?, Vec::<String>::new());
    Ok(())
}

/// What object stores refuse for all requests alike, and the remedy.
const REFUSALS: [(u16, &str, &str); 5] = [
    (403, "AccessDenied", "scylla-manager-agent check-location -L s3:"),
    (400, "ExpiredToken", "renew the credentials of this node"),
    (
        403,
        "InvalidAccessKeyId",
        "check s3.access_key_id and s3.secret_access_key in scylla-manager-agent.yaml",
    ),
    (403, "RequestTimeTooSkewed", "the clock of this node is wrong, check NTP"),
    (403, "QuotaExceeded", "free space or raise the quota"),
];

#[tokio::test]
async fn a_run_whose_uploads_are_refused_ends_quickly_with_the_remedy() -> anyhow::Result<()> {
    const TABLES: usize = 8;
    let shop = (0..TABLES).fold(KeyspaceSpec::new("shop"), |shop, at| {
        shop.table(TableSpec::new(format!("t{at}")).sstables(3).data_size(64 * 1024))
    });
    let mut bed = Bed::start(config(ClusterBuilder::new().dc("dc1", 1).keyspace(shop))).await?;
    let (host, location) = (bed.cluster.nodes()[0].address().to_string(), bed.location());
    let mut task = String::new();
    for (at, (status, code, remedy)) in REFUSALS.into_iter().enumerate() {
        // The first files go well: the access check has passed, and then something changes.
        let refusal = Rule::new(Fault::Status { status, code, retry_after: None })
            .on(&[RequestKind::PutObject])
            .key("*/keyspace/shop/*-Data.db")
            .calls(Calls::From(2));
        let rule = bed.faults().add(refusal);
        let refused = bed.counters().of(RequestKind::PutObject).failed;
        match at {
            0 => task = bed.create_backup(&["-K", "shop"]).await?,
            _ => bed.start_task(&task).await?,
        }
        let ended = bed.run_ended(&task, at + 1).await?;
        bed.faults().remove(rule);

        assert_eq!(ended.status, "ERROR");
        for part in [host.as_str(), &location, code, remedy, "tables were not tried"] {
            assert!(ended.cause.contains(part), "{part:?} is not in {}", ended.cause);
        }
        // At most what was in flight: neither attempts again nor other files nor other tables.
        let refused = bed.counters().of(RequestKind::PutObject).failed - refused;
        assert!((1..=6).contains(&refused), "{refused} uploads were refused with {code}");
        assert!(
            bed.keys().await?.iter().all(|key| !key.ends_with("manifest.json.gz")),
            "nothing is published"
        );
        bed.assert_invariants_amid_run().await?;
    }
    bed.backup_again(&task, REFUSALS.len() + 1).await?;
    bed.assert_invariants().await
}

#[tokio::test]
async fn nodes_in_trouble_are_named() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    let hosts: Vec<String> = bed.cluster.nodes().iter().map(|node| node.address().to_string()).collect();
    let location = bed.location();
    bed.cluster.nodes()[1].set_disk_fault(DiskFault::FullAfter(3));
    let task = bed.create_backup(&["-K", "shop"]).await?;
    let ended = bed.run_ended(&task, 1).await?;
    assert_eq!(ended.status, "ERROR");
    assert!(ended.cause.contains(&hosts[1]) && ended.cause.contains("No space left"), "{}", ended.cause);
    assert!(!ended.cause.contains(&hosts[0]), "{}", ended.cause);
    let progress = bed.sctool_ok(&["progress", "-c", "test", &task]).await?;
    assert!(progress.contains(&format!("\n {}: ", hosts[1])), "each host on a line of its own: {progress}");
    bed.cluster.nodes()[1].set_disk_fault(DiskFault::None);

    // A token that is not the agents': it is not stored, and what was there still works.
    let dry_run = ["backup", "-c", "test", "-L", &location, "--dry-run"];
    let update = bed.sctool(&["cluster", "update", "-c", "test", "--auth-token", "guess"]).await?;
    assert_refused(&update, &[&hosts[0], "unauthorized", "auth token"]);
    bed.sctool_ok(&dry_run).await?;

    bed.kill_agent(0)?;
    bed.kill_agent(1)?;
    let run = bed.sctool(&dry_run).await?;
    assert_refused(
        &run,
        &[&hosts[0], &hosts[1], "agent not reachable, is scylla-manager-agent running there"],
    );
    Ok(())
}

#[tokio::test]
async fn commands_survive_a_restart_of_the_manager_with_a_clear_error() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(1))).await?;
    let task = bed.create_backup(&["--name", "nightly", "-s", "now+1h"]).await?;
    let location = bed.location();
    let dry_run = ["backup", "-c", "test", "-L", &location, "--dry-run"];
    for (arguments, advice) in [
        (&dry_run[..], "scylla-manager went away before it answered, is it being restarted? Try again"),
        (&dry_run[..dry_run.len() - 1], "It may have done what was asked for: look before you try again"),
    ] {
        // A node that does not answer keeps the request open until the manager goes away.
        let hang = NodeRule::new("GET", "/storage_service/scylla_release_version", Action::Hang);
        let rule = bed.cluster.rules().add(hang);
        let running = bed.start_sctool(arguments)?;
        wait_for("the hanging call", Deadline::seconds(30), async || {
            Ok((bed.cluster.rules().acted(rule) > 0).then_some(()))
        })
        .await?;
        bed.kill_manager()?;
        assert_refused(&running.ended().await?, &[bed.api.base(), advice]);
        let down = bed.sctool(&["progress", "-c", "test", &task]).await?;
        assert_refused(&down, &["connection refused", "is scylla-manager running there? see --api-url"]);

        bed.cluster.rules().remove(rule);
        bed.start_manager().await?;
        let progress = bed.sctool_ok(&["progress", "-c", "test", &task]).await?;
        assert!(progress.contains("NEW"), "{progress}");
    }
    let tasks = bed.sctool_ok(&["tasks", "-c", "test", "-t", "backup", "--all"]).await?;
    assert_eq!(tasks.matches("backup/").count(), 1, "nothing half-created: {tasks}");
    Ok(())
}

#[tokio::test]
async fn a_command_that_follows_a_run_sees_it_through_a_restart_of_the_manager() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(1))).await?;
    let gate = hold_uploads(&bed);
    let task = bed.create_backup(&["-s", "now+1h"]).await?;
    let following = bed.start_sctool(&["start", "-c", "test", &task, "--wait"])?;
    assert!(gate.reached(1, HELD).await, "the upload begins\n{}", bed.log_tails());

    bed.kill_manager()?;
    bed.start_manager().await?;

    gate.open();
    // It follows the task into the run that goes on, unless it looks just between the two.
    let followed = following.ended().await?;
    let end = if followed.code == 0 { "DONE" } else { "ABORTED" };
    assert!(followed.code <= 1 && followed.stderr.contains(end), "{followed:?}");
    let continued = bed.run_ended(&task, 2).await?;
    assert_eq!(continued.status, "DONE", "{}", continued.cause);
    bed.record_latest(&task).await?;
    bed.assert_invariants().await
}
