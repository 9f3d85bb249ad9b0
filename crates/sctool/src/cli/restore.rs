//! `restore` and `restore 1-1-restore` (spec/sctool.md 2.7, 2.8).
//!
//! The properties that an update may not touch are still flags of the update commands: naming one gets the
//! explanation why, instead of "unknown flag".

use clap::{Args, Command};
use common::ids::ClusterId;
use common::units::DcLimit;

use super::shared::{
    ClusterFlag, EnabledFlag, EnabledUpdateFlag, KeyspaceFlag, LocationFlag, OptionalTask, OutputFlag,
    ScheduleFlags,
};
use super::{leaf, leaf_with};
use crate::grammar::mapping::{DcMapping, NodesMapping};
use crate::grammar::method::Method;
use crate::values::{Csv, Int, Switch};

/// What to restore; fixed once the task exists.
#[derive(Debug, Clone, Default, Args)]
pub struct RestoreSource {
    #[command(flatten)]
    pub location: LocationFlag,
    /// Tag of the backup, as 'backup list' shows it
    #[arg(short = 'T', long, value_name = "tag")]
    pub snapshot_tag: Option<String>,
    #[command(flatten)]
    pub keyspace: KeyspaceFlag,
    /// Restore the schema; do this before the tables
    #[arg(long)]
    pub restore_schema: Option<Switch>,
    /// Restore the contents of tables that exist
    #[arg(long)]
    pub restore_tables: Option<Switch>,
    /// Comma-separated list of <source dc>=<target dc>; only these datacenters are restored
    #[arg(long, value_name = "map")]
    pub dc_mapping: Option<DcMapping>,
}

/// How to restore.
#[derive(Debug, Clone, Default, Args)]
pub struct RestoreOptions {
    /// SSTables per shard in one batch; 0 for as large as sensible (default 2)
    #[arg(long, value_name = "int")]
    pub batch_size: Option<Int>,
    /// Nodes that restore at once; 0 for all (default 0)
    #[arg(long, value_name = "int")]
    pub parallel: Option<Int>,
    /// Parallel file transfers per node; 0 for twice the shard count, -1 for the agent's own setting (default 0)
    #[arg(long, value_name = "int")]
    pub transfers: Option<Int>,
    /// Comma-separated list of download limits per node in MiB/s, [<dc>:]<limit> (default unlimited)
    #[arg(long, value_name = "list")]
    pub rate_limit: Option<Vec<Csv<DcLimit>>>,
    /// Leave auto-compaction on during the restore
    #[arg(long)]
    pub allow_compaction: Option<Switch>,
    /// Let the agents use all CPUs during the restore
    #[arg(long)]
    pub unpin_agent_cpu: Option<Switch>,
    /// Who downloads: rclone (the agent), native (ScyllaDB itself) or auto (default rclone)
    #[arg(long, value_name = "method")]
    pub method: Option<Method>,
    /// Check everything and print what would be restored; schedules nothing
    #[arg(long)]
    pub dry_run: Option<Switch>,
    /// Name the tables in the output of --dry-run
    #[arg(long)]
    pub show_tables: Option<Switch>,
}

#[derive(Debug, Clone, Args)]
pub struct RestoreCreate {
    #[command(flatten)]
    pub cluster: ClusterFlag,
    #[command(flatten)]
    pub source: RestoreSource,
    #[command(flatten)]
    pub options: RestoreOptions,
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
pub struct RestoreUpdate {
    #[command(flatten)]
    pub task: OptionalTask,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    #[command(flatten)]
    pub source: RestoreSource,
    #[command(flatten)]
    pub options: RestoreOptions,
    #[command(flatten)]
    pub schedule: ScheduleFlags,
    #[command(flatten)]
    pub enabled: EnabledUpdateFlag,
    #[command(flatten)]
    pub output: OutputFlag,
}

/// What a mirror cluster is restored from; fixed once the task exists.
#[derive(Debug, Clone, Default, Args)]
pub struct MirrorSource {
    #[command(flatten)]
    pub location: LocationFlag,
    /// Tag of the backup, as 'backup list' shows it
    #[arg(short = 'T', long, value_name = "tag")]
    pub snapshot_tag: Option<String>,
    /// ID of the cluster that was backed up
    #[arg(long, value_name = "uuid")]
    pub source_cluster_id: Option<ClusterId>,
    /// File with one line per node: <dc>:<rack>:<host id>=<dc>:<rack>:<host id>, source first
    #[arg(long, value_name = "file")]
    pub nodes_mapping: Option<NodesMapping>,
    #[command(flatten)]
    pub keyspace: KeyspaceFlag,
}

#[derive(Debug, Clone, Default, Args)]
pub struct MirrorOptions {
    /// Let the agents use all CPUs during the restore
    #[arg(long)]
    pub unpin_agent_cpu: Option<Switch>,
    /// Not available yet for this command
    #[arg(long)]
    pub dry_run: Option<Switch>,
}

#[derive(Debug, Clone, Args)]
pub struct MirrorCreate {
    #[command(flatten)]
    pub cluster: ClusterFlag,
    #[command(flatten)]
    pub source: MirrorSource,
    #[command(flatten)]
    pub options: MirrorOptions,
    #[command(flatten)]
    pub schedule: ScheduleFlags,
    #[command(flatten)]
    pub enabled: EnabledFlag,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct MirrorUpdate {
    #[command(flatten)]
    pub task: OptionalTask,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    #[command(flatten)]
    pub source: MirrorSource,
    #[command(flatten)]
    pub options: MirrorOptions,
    #[command(flatten)]
    pub schedule: ScheduleFlags,
    #[command(flatten)]
    pub enabled: EnabledUpdateFlag,
    #[command(flatten)]
    pub output: OutputFlag,
}

pub fn command() -> Command {
    leaf::<RestoreCreate>("restore", "Schedule a restore, or run one now", RESTORE_LONG)
        .override_usage(
            "--cluster <id|name> --location <list> --snapshot-tag <tag> (--restore-schema | --restore-tables) [flags]",
        )
        .after_help(RESTORE_EXAMPLES)
        .subcommand(
            leaf_with::<RestoreUpdate>("update", "Change a restore task")
                .override_usage("--cluster <id|name> [flags] [restore/<id|name>]")
                .after_help("  sctool restore update -c new-cluster restore/tables --parallel 2"),
        )
        .subcommand(
            leaf::<MirrorCreate>("1-1-restore", "Restore onto a cluster of the same topology", MIRROR_LONG)
                .override_usage(
                    "--cluster <id|name> --location <list> --snapshot-tag <tag> --source-cluster-id <id> \
                     --nodes-mapping <file> [flags]",
                )
                .after_help(MIRROR_EXAMPLES)
                .subcommand(
                    leaf_with::<MirrorUpdate>("update", "Change a 1-1-restore task")
                        .override_usage("--cluster <id|name> [flags] [1_1_restore/<id|name>]")
                        .after_help("  sctool restore 1-1-restore update -c new-cluster --unpin-agent-cpu"),
                ),
        )
}

const RESTORE_LONG: &str = "\
Schedules a restore from a backup and prints the ID of the task.

A restore takes two steps: first the schema into an empty cluster, then the contents of the tables.";

const RESTORE_EXAMPLES: &str = "\
  sctool restore -c new-cluster -L s3:my-backups -T sm_20260302023012UTC --restore-schema
  sctool restore -c new-cluster -L s3:my-backups -T sm_20260302023012UTC --restore-tables";

const MIRROR_LONG: &str = "\
Schedules a restore onto a cluster that has the same datacenters, racks and token ranges as the one that was backed
up: every node takes over the files of its counterpart.";

const MIRROR_EXAMPLES: &str = "\
  sctool restore 1-1-restore -c new-cluster -L s3:my-backups -T sm_20260302023012UTC \
    --source-cluster-id 5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01 --nodes-mapping mapping.txt";
