//! `backup` and everything below it (spec/sctool.md 2.2 to 2.6).

use clap::{Args, Command};
use common::location::Location;
use common::snapshot_tag::SnapshotTag;
use common::units::DcLimit;

use super::shared::{
    ClusterFlag, DcFlag, EnabledFlag, EnabledUpdateFlag, KeyspaceFlag, LocationFlag, OptionalTask,
    OutputFlag, ScheduleFlags, TaskArgument,
};
use super::{leaf, leaf_with};
use crate::grammar::date::When;
use crate::grammar::method::{LockMode, Method};
use crate::values::{Csv, Int, Switch};

/// What a backup does, apart from where to.
#[derive(Debug, Clone, Default, Args)]
pub struct BackupOptions {
    /// Keep that many newest backups of this task; 0 keeps all of them (default 3)
    #[arg(long, value_name = "int")]
    pub retention: Option<Int>,
    /// Keep backups younger than that many days; 0 for no limit by age (default 0)
    #[arg(long, value_name = "int")]
    pub retention_days: Option<Int>,
    /// Comma-separated list of upload limits per node in MiB/s, [<dc>:]<limit>; 0 for no limit (default unlimited)
    #[arg(long, value_name = "list")]
    pub rate_limit: Option<Vec<Csv<DcLimit>>>,
    /// Parallel file transfers per node; -1 takes the value of the agent's configuration (default -1)
    #[arg(long, value_name = "int")]
    pub transfers: Option<Int>,
    /// Comma-separated list of how many nodes take snapshots at once, [<dc>:]<limit> (default all)
    #[arg(long, value_name = "list")]
    pub snapshot_parallel: Option<Vec<Csv<DcLimit>>>,
    /// Comma-separated list of how many nodes upload at once, [<dc>:]<limit> (default all)
    #[arg(long, value_name = "list")]
    pub upload_parallel: Option<Vec<Csv<DcLimit>>>,
    /// Check everything and print what would be backed up; schedules nothing
    #[arg(long)]
    pub dry_run: Option<Switch>,
    /// Name the tables in the output of --dry-run
    #[arg(long)]
    pub show_tables: Option<Switch>,
    /// Only delete backups that retention lets go, back up nothing
    #[arg(long)]
    pub purge_only: Option<Switch>,
    /// Leave the schema out; it cannot be restored from such a backup
    #[arg(long)]
    pub skip_schema: Option<Switch>,
    /// Who uploads: rclone (the agent), native (ScyllaDB itself) or auto (default rclone)
    #[arg(long, value_name = "method")]
    pub method: Option<Method>,
    /// Object locks on backed up files: disabled, unlocked, locked or event-based-hold; gcs only (default disabled)
    #[arg(long, value_name = "mode")]
    pub retention_lock_mode: Option<LockMode>,
    /// Allow replacing existing unlocked locks
    #[arg(long)]
    pub override_retention_lock: Option<Switch>,
}

#[derive(Debug, Clone, Args)]
pub struct BackupCreate {
    #[command(flatten)]
    pub cluster: ClusterFlag,
    /// Comma-separated list of backup locations, [<dc>:]<provider>:<bucket>, e.g. s3:my-backups or
    /// eu-dc:s3:eu-backups. With <dc> the location serves the nodes of that datacenter only
    #[arg(short = 'L', long, value_name = "list", required = true)]
    pub location: Vec<Csv<Location>>,
    #[command(flatten)]
    pub dc: DcFlag,
    #[command(flatten)]
    pub keyspace: KeyspaceFlag,
    #[command(flatten)]
    pub options: BackupOptions,
    #[command(flatten)]
    pub schedule: ScheduleFlags,
    #[command(flatten)]
    pub enabled: EnabledFlag,
    #[command(flatten)]
    pub output: OutputFlag,
    /// Follow the first run to its end; exit status 0 only if it is DONE
    #[arg(long)]
    pub wait: Option<Switch>,
}

#[derive(Debug, Clone, Args)]
pub struct BackupUpdate {
    #[command(flatten)]
    pub task: OptionalTask,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    #[command(flatten)]
    pub location: LocationFlag,
    #[command(flatten)]
    pub dc: DcFlag,
    #[command(flatten)]
    pub keyspace: KeyspaceFlag,
    #[command(flatten)]
    pub options: BackupOptions,
    #[command(flatten)]
    pub schedule: ScheduleFlags,
    #[command(flatten)]
    pub enabled: EnabledUpdateFlag,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct BackupList {
    #[command(flatten)]
    pub cluster: ClusterFlag,
    #[command(flatten)]
    pub location: LocationFlag,
    #[command(flatten)]
    pub keyspace: KeyspaceFlag,
    /// Show the backups of other clusters in these locations too
    #[arg(long)]
    pub all_clusters: Option<Switch>,
    /// Show backups not older than this date: RFC 3339 or now-<duration>, e.g. now-7d
    #[arg(long, value_name = "date")]
    pub min_date: Option<When>,
    /// Show backups not newer than this date: RFC 3339 or now-<duration>
    #[arg(long, value_name = "date")]
    pub max_date: Option<When>,
    /// Name the tables instead of counting them
    #[arg(long)]
    pub show_tables: Option<Switch>,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct BackupFiles {
    #[command(flatten)]
    pub cluster: ClusterFlag,
    /// Tag of the backup, as 'backup list' shows it
    #[arg(short = 'T', long, value_name = "tag")]
    pub snapshot_tag: SnapshotTag,
    #[command(flatten)]
    pub location: LocationFlag,
    #[command(flatten)]
    pub keyspace: KeyspaceFlag,
    /// Look for the tag among the backups of other clusters too
    #[arg(long)]
    pub all_clusters: Option<Switch>,
    /// Text between path and <keyspace>/<table> (default one tab)
    #[arg(short, long, value_name = "text")]
    pub delimiter: Option<String>,
    /// Add -<table ID> to the table name
    #[arg(long)]
    pub with_version: Option<Switch>,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct BackupDelete {
    #[command(flatten)]
    pub cluster: ClusterFlag,
    /// Comma-separated list of tags, as 'backup list' shows them
    #[arg(short = 'T', long, value_name = "list", required = true)]
    pub snapshot_tag: Vec<Csv<SnapshotTag>>,
    #[command(flatten)]
    pub location: LocationFlag,
}

#[derive(Debug, Clone, Args)]
pub struct DeleteLocalSnapshot {
    #[command(flatten)]
    pub cluster: ClusterFlag,
}

#[derive(Debug, Clone, Args)]
pub struct BackupControl {
    #[command(flatten)]
    pub task: TaskArgument,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    /// Comma-separated list of upload limits per node in MiB/s, [<dc>:]<limit>; 0 for no limit
    #[arg(long, value_name = "list", required = true)]
    pub rate_limit: Vec<Csv<DcLimit>>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct ValidateOptions {
    /// Delete data files that no backup refers to
    #[arg(long)]
    pub delete_orphaned_files: Option<Switch>,
    /// Hosts analysed at once; 0 for all (default 0)
    #[arg(long, value_name = "int")]
    pub parallel: Option<Int>,
}

#[derive(Debug, Clone, Args)]
pub struct ValidateCreate {
    #[command(flatten)]
    pub cluster: ClusterFlag,
    #[command(flatten)]
    pub location: LocationFlag,
    #[command(flatten)]
    pub options: ValidateOptions,
    #[command(flatten)]
    pub schedule: ScheduleFlags,
    #[command(flatten)]
    pub enabled: EnabledFlag,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct ValidateUpdate {
    #[command(flatten)]
    pub task: OptionalTask,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    #[command(flatten)]
    pub location: LocationFlag,
    #[command(flatten)]
    pub options: ValidateOptions,
    #[command(flatten)]
    pub schedule: ScheduleFlags,
    #[command(flatten)]
    pub enabled: EnabledUpdateFlag,
    #[command(flatten)]
    pub output: OutputFlag,
}

pub fn command() -> Command {
    leaf::<BackupCreate>("backup", "Schedule a backup, or run one now", CREATE_LONG)
        .override_usage("--cluster <id|name> --location [<dc>:]<provider>:<bucket> [flags]")
        .after_help(CREATE_EXAMPLES)
        .subcommand(
            leaf::<BackupUpdate>("update", "Change a backup task", UPDATE_LONG)
                .override_usage("--cluster <id|name> [flags] [backup/<id|name>]")
                .after_help(UPDATE_EXAMPLES),
        )
        .subcommand(
            leaf::<BackupList>("list", "Show the backups in the locations", LIST_LONG)
                .override_usage("--cluster <id|name> [flags]")
                .after_help(LIST_EXAMPLES),
        )
        .subcommand(
            leaf::<BackupFiles>("files", "Show the files of a backup", FILES_LONG)
                .override_usage("--cluster <id|name> --snapshot-tag <tag> [flags]")
                .after_help(FILES_EXAMPLES),
        )
        .subcommand(
            leaf::<BackupDelete>("delete", "Delete backups", DELETE_LONG)
                .override_usage("--cluster <id|name> --snapshot-tag <tag>[,<tag>...] [flags]")
                .after_help(DELETE_EXAMPLES)
                .subcommand(
                    leaf::<DeleteLocalSnapshot>(
                        "local-snapshot",
                        "Delete the manager's snapshots on the nodes",
                        LOCAL_LONG,
                    )
                    .alias("local-snapshots")
                    .override_usage("--cluster <id|name>")
                    .after_help("  sctool backup delete local-snapshot -c prod-cluster"),
                ),
        )
        .subcommand(
            leaf::<BackupControl>("control", "Change the rate limit of a running backup", CONTROL_LONG)
                .override_usage("--cluster <id|name> --rate-limit <list> backup/<id|name>")
                .after_help(CONTROL_EXAMPLES),
        )
        .subcommand(validate())
}

fn validate() -> Command {
    leaf::<ValidateCreate>(
        "validate",
        "Schedule a check of the backed up files, or run one now",
        VALIDATE_LONG,
    )
    .override_usage("--cluster <id|name> [flags]")
    .after_help(VALIDATE_EXAMPLES)
    .subcommand(
        leaf_with::<ValidateUpdate>("update", "Change a validation task")
            .override_usage("--cluster <id|name> [flags] [validate_backup/<id|name>]")
            .after_help(
                "  sctool backup validate update -c prod-cluster validate_backup/weekly --parallel 2",
            ),
    )
}

const CREATE_LONG: &str = "\
Schedules a backup of a cluster to an object store and prints the ID of the task.

Without schedule flags the backup runs once, now. --cron (or --start-date and --interval) makes it repeat; each
repetition is a snapshot of its own, uploads only files that the location does not hold yet, and ends by deleting
the snapshots that --retention lets go. Try --dry-run first: it checks that every node reaches the location.";

const CREATE_EXAMPLES: &str = "\
  Run a backup once, now:
    sctool backup -c prod-cluster -L s3:my-backups
  See first what it would do:
    sctool backup -c prod-cluster -L s3:my-backups --dry-run
  Every night at half past two, keep a week:
    sctool backup -c prod-cluster -L s3:my-backups --cron '30 2 * * *' --retention 7 --name nightly
  Every day from a date on, as in 2.x:
    sctool backup -c prod-cluster -L s3:my-backups -s 2026-03-02T15:16:05Z -i 24h
  Every hour, but only in the nights of the weekend:
    sctool backup -c prod-cluster -L s3:my-backups --cron '0 * * * *' --window 'SAT,SUN-00:00-06:00'
  A bucket per datacenter:
    sctool backup -c prod-cluster --dc 'eu-dc,us-dc' -L 'eu-dc:s3:eu-backups,us-dc:s3:us-backups'
  All tables of a keyspace but one:
    sctool backup -c prod-cluster -L s3:my-backups -K 'auth_service.*,!auth_service.lru_cache'
  At most 50 MiB/s per node, 10 in dc1, two nodes at a time:
    sctool backup -c prod-cluster -L s3:my-backups --rate-limit dc1:10,50 --upload-parallel 2
  Run one in a script and wait for its end:
    sctool backup -c prod-cluster -L s3:my-backups --wait";

const UPDATE_LONG: &str = "\
Changes a backup task. Only what the given flags name is changed. The task may be left out when the cluster has
only one backup task. With --dry-run it prints what the task would back up after the change, and changes nothing.";

const UPDATE_EXAMPLES: &str = "\
  Keep two weeks:
    sctool backup update -c prod-cluster backup/nightly --retention 14
  Defer it, the rest of the schedule follows from there:
    sctool backup update -c prod-cluster backup/nightly -s now+3h
  Switch a task off:
    sctool backup update -c prod-cluster backup/nightly --enabled=false";

const LIST_LONG: &str = "\
Shows the backups found in the locations, newest first, per task: tag, size, number of nodes, keyspaces.
It reads the locations, not the manager's memory: what it shows is what can be restored.";

const LIST_EXAMPLES: &str = "\
  Backups of the last week:
    sctool backup list -c prod-cluster --min-date now-7d
  Everything in a bucket, also from clusters that are gone:
    sctool backup list -c prod-cluster -L s3:my-backups --all-clusters";

const FILES_LONG: &str = "\
Lists the files of a backup, one per line: schema first, then path and keyspace/table of each SSTable file.";

const FILES_EXAMPLES: &str = "\
  Paths of one table:
    sctool backup files -c prod-cluster -T sm_20260302023012UTC -K shop.orders
  Comma-separated, with the ID of each table:
    sctool backup files -c prod-cluster -T sm_20260302023012UTC --delimiter , --with-version";

const DELETE_LONG: &str = "\
Deletes backups by tag. Files that other backups refer to stay. This cannot be undone.";

const DELETE_EXAMPLES: &str = "\
  sctool backup delete -c prod-cluster -L s3:my-backups --snapshot-tag sm_20260302023012UTC";

const LOCAL_LONG: &str = "\
Deletes snapshots made by the manager from the disks of the nodes, e.g. what an interrupted backup left there.
Nothing in the locations changes. An unfinished backup starts from scratch afterwards.";

const CONTROL_LONG: &str = "\
Changes the upload limit of a backup task at once, also of its running run, and keeps it for later runs.
Nodes that do not answer are named; the limit is kept all the same, and they get it when they answer again.";

const CONTROL_EXAMPLES: &str = "\
  Slow a running backup down to 20 MiB/s per node:
    sctool backup control -c prod-cluster backup/nightly --rate-limit 20
  Lift the limit:
    sctool backup control -c prod-cluster backup/nightly --rate-limit 0";

const VALIDATE_LONG: &str = "\
Schedules a check that every file of every backup is in its location, and prints the ID of the task.
It also finds orphaned files, which no backup refers to; --delete-orphaned-files removes them.";

const VALIDATE_EXAMPLES: &str = "\
  sctool backup validate -c prod-cluster
  sctool progress -c prod-cluster validate_backup --details";
