//! Commands about tasks of any type: `tasks`, `info`, `progress`, `start`, `stop`, `suspend`, `resume`, and the
//! 2.x group `task` (spec/sctool.md 2.13 to 2.17, 2.20).

use clap::{Args, Command};
use common::units::TaskDuration;

use super::shared::{
    ClusterFlag, EnabledFlag, EnabledUpdateFlag, KeyspaceFlag, OptionalCluster, OptionalTask, OutputFlag,
    ScheduleFlags, TaskArgument,
};
use super::{group, leaf, leaf_with};
use crate::grammar::pattern::Pattern;
use crate::grammar::run_ref::RunRef;
use crate::values::{Csv, Int, Switch};

#[derive(Debug, Clone, Args)]
pub struct Tasks {
    #[command(flatten)]
    pub cluster: OptionalCluster,
    /// Include disabled tasks, marked *
    #[arg(short, long)]
    pub all: Option<Switch>,
    /// Show the ID even if the task has a name
    #[arg(long)]
    pub show_ids: Option<Switch>,
    /// Show the properties that were set
    #[arg(long)]
    pub show_properties: Option<Switch>,
    /// Only tasks of this status: NEW, RUNNING, STOPPING, STOPPED, WAITING, DONE, ERROR or ABORTED
    #[arg(short, long)]
    pub status: Option<String>,
    /// Only tasks of this type
    #[arg(short = 't', long = "type", value_name = "type")]
    pub task_type: Option<String>,
    /// Sort by next-activation or status
    #[arg(long, value_name = "key")]
    pub sort: Option<String>,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct Info {
    #[command(flatten)]
    pub task: TaskArgument,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    /// Number of runs to show (default 10)
    #[arg(long, value_name = "int")]
    pub limit: Option<Int>,
    /// Show why runs failed
    #[arg(long)]
    pub cause: Option<Switch>,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct Progress {
    #[command(flatten)]
    pub task: TaskArgument,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    /// Show every table of every host
    #[arg(long)]
    pub details: Option<Switch>,
    /// Comma-separated list of globs that select hosts
    #[arg(long, value_name = "list")]
    pub host: Option<Vec<Csv<Pattern>>>,
    #[command(flatten)]
    pub keyspace: KeyspaceFlag,
    /// The run to show: its ID, latest, or ~N for the N-th before the last (default latest)
    #[arg(long, value_name = "run")]
    pub run: Option<RunRef>,
    /// Follow the run on the terminal to its end; exit status 0 only if it is DONE
    #[arg(long)]
    pub watch: Option<Switch>,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct Start {
    #[command(flatten)]
    pub task: TaskArgument,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    /// Start from scratch instead of continuing an unfinished run
    #[arg(long)]
    pub no_continue: Option<Switch>,
    /// Follow the run to its end; exit status 0 only if it is DONE
    #[arg(long)]
    pub wait: Option<Switch>,
}

#[derive(Debug, Clone, Args)]
pub struct Stop {
    #[command(flatten)]
    pub task: TaskArgument,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    /// Disable the task too, so that it does not run again by itself
    #[arg(long)]
    pub disable: Option<Switch>,
    /// Delete the task after stopping it
    #[arg(long)]
    pub delete: Option<Switch>,
}

#[derive(Debug, Clone, Args)]
pub struct LegacyStop {
    #[command(flatten)]
    pub task: TaskArgument,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    /// Disable the task too, so that it does not run again by itself
    #[arg(long)]
    pub disable: Option<Switch>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct SuspendOptions {
    /// Resume by itself after this time, e.g. 3h
    #[arg(long, value_name = "duration")]
    pub duration: Option<TaskDuration>,
    /// On that resume, restart the tasks that were stopped; needs --duration
    #[arg(long)]
    pub on_resume_start_tasks: Option<Switch>,
    /// Later starts begin from scratch; not with --duration
    #[arg(long)]
    pub no_continue: Option<Switch>,
    /// Let tasks of this type run on
    #[arg(long, value_name = "type")]
    pub allow_task_type: Option<String>,
    /// What to do with running tasks: stop_running_tasks or fail_if_running_tasks (default stop_running_tasks)
    #[arg(long, value_name = "policy")]
    pub suspend_policy: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct Suspend {
    #[command(flatten)]
    pub cluster: ClusterFlag,
    #[command(flatten)]
    pub options: SuspendOptions,
    #[command(flatten)]
    pub schedule: ScheduleFlags,
    #[command(flatten)]
    pub enabled: EnabledFlag,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct SuspendUpdate {
    #[command(flatten)]
    pub task: OptionalTask,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    #[command(flatten)]
    pub options: SuspendOptions,
    #[command(flatten)]
    pub schedule: ScheduleFlags,
    #[command(flatten)]
    pub enabled: EnabledUpdateFlag,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct Resume {
    #[command(flatten)]
    pub cluster: ClusterFlag,
    /// Restart the tasks that the suspend stopped
    #[arg(long)]
    pub start_tasks: Option<Switch>,
    /// Start tasks whose time came while the cluster was suspended
    #[arg(long)]
    pub start_tasks_missed_activation: Option<Switch>,
    /// Restarted tasks begin from scratch
    #[arg(long)]
    pub no_continue: Option<Switch>,
}

#[derive(Debug, Clone, Args)]
pub struct LegacyList {
    #[command(flatten)]
    pub cluster: OptionalCluster,
    /// Include disabled tasks, marked *
    #[arg(short, long)]
    pub all: Option<Switch>,
    /// Only tasks of this status
    #[arg(short, long)]
    pub status: Option<String>,
    /// Only tasks of this type
    #[arg(short = 't', long = "type", value_name = "type")]
    pub task_type: Option<String>,
    /// Sort by start-time, next-activation, end-time or status
    #[arg(long, value_name = "key")]
    pub sort: Option<String>,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct LegacyHistory {
    #[command(flatten)]
    pub task: TaskArgument,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    /// Number of runs to show (default 10)
    #[arg(long, value_name = "int")]
    pub limit: Option<Int>,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct LegacyUpdate {
    #[command(flatten)]
    pub task: TaskArgument,
    #[command(flatten)]
    pub cluster: ClusterFlag,
    #[command(flatten)]
    pub schedule: ScheduleFlags,
    #[command(flatten)]
    pub enabled: EnabledUpdateFlag,
}

#[derive(Debug, Clone, Args)]
pub struct LegacyDelete {
    #[command(flatten)]
    pub task: TaskArgument,
    #[command(flatten)]
    pub cluster: ClusterFlag,
}

pub fn commands() -> Vec<Command> {
    let reference = "--cluster <id|name> [flags] <type>[/<id|name>]";
    vec![
        leaf::<Tasks>("tasks", "Show the tasks", TASKS_LONG)
            .override_usage("[--cluster <id|name>] [flags]")
            .after_help("  sctool tasks -c prod-cluster --all --show-properties"),
        leaf::<Info>("info", "Show a task and its last runs", INFO_LONG)
            .override_usage(reference)
            .after_help("  sctool info -c prod-cluster backup/nightly --cause"),
        leaf::<Progress>("progress", "Show how far a run is", PROGRESS_LONG)
            .override_usage(reference)
            .after_help(PROGRESS_EXAMPLES),
        leaf::<Start>("start", "Start a task now", START_LONG)
            .override_usage(reference)
            .after_help("  sctool start -c prod-cluster backup/nightly"),
        leaf::<Stop>("stop", "Stop a running task", STOP_LONG)
            .override_usage(reference)
            .after_help("  sctool stop -c prod-cluster backup/nightly --disable"),
        leaf::<Suspend>("suspend", "Stop all tasks of a cluster and start none", SUSPEND_LONG)
            .override_usage("--cluster <id|name> [flags]")
            .after_help(SUSPEND_EXAMPLES)
            .subcommand(
                leaf_with::<SuspendUpdate>("update", "Change a planned suspend")
                    .override_usage("--cluster <id|name> [flags] [suspend/<id|name>]")
                    .after_help("  sctool suspend update -c prod-cluster suspend/weekend --duration 8h"),
            ),
        leaf_with::<Resume>("resume", "Let the tasks of a suspended cluster run again")
            .override_usage("--cluster <id|name> [flags]")
            .after_help("  sctool resume -c prod-cluster --start-tasks"),
    ]
}

/// The 2.x spelling: hidden from help, each child with the hint of its deprecation note.
pub fn legacy() -> Command {
    let task = |name: &'static str, command: Command, arguments: &str| {
        let usage = if name == "list" { "[flags]" } else { "--cluster <id|name> [flags] <type>/<id>" };
        command.override_usage(usage).after_help(format!("  sctool task {name} -c prod-cluster{arguments}"))
    };
    let id = " backup/3208ff15-6e8f-48b2-875c-d3c73f545410";
    group("task", "Commands of 2.x, kept for scripts")
        .hide(true)
        .after_help("  sctool task list -c prod-cluster")
        .subcommand(task("list", leaf_with::<LegacyList>("list", "Show the tasks"), ""))
        .subcommand(task("start", leaf_with::<Start>("start", "Start a task now"), id))
        .subcommand(task("stop", leaf_with::<LegacyStop>("stop", "Stop a running task"), id))
        .subcommand(task("progress", leaf_with::<Progress>("progress", "Show how far a run is"), id))
        .subcommand(task(
            "history",
            leaf_with::<LegacyHistory>("history", "Show the last runs of a task"),
            id,
        ))
        .subcommand(task(
            "update",
            leaf_with::<LegacyUpdate>("update", "Change the schedule of a task"),
            &format!("{id} -s now+3h"),
        ))
        .subcommand(task("delete", leaf_with::<LegacyDelete>("delete", "Delete a task"), id))
}

/// The note that a `task` command prints first; `None` for all others (spec/sctool.md 2.20).
pub fn deprecation(path: &[String]) -> Option<String> {
    let (name, hint) = match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["task"] => ("task", "see subcommands for details."),
        ["task", "list"] => ("list", "use `sctool tasks` instead."),
        ["task", "history"] => ("history", "use sctool info instead."),
        ["task", "progress"] => ("progress", "use sctool progress instead."),
        ["task", "start"] => ("start", "use sctool start instead."),
        ["task", "stop"] => ("stop", "use sctool stop instead."),
        ["task", "update"] => ("update", "use sctool <type> update instead."),
        ["task", "delete"] => ("delete", "use sctool stop --delete instead"),
        _ => return None,
    };
    Some(format!("Command \"{name}\" is deprecated, {hint}\n\n"))
}

const TASKS_LONG: &str = "\
Shows the tasks of a cluster: schedule, results so far, status, next activation.

Status: NEW never ran; RUNNING; STOPPING; STOPPED by the user or a suspend; WAITING for its window; DONE; ERROR;
ABORTED by a restart of the manager.";

const INFO_LONG: &str = "\
Shows schedule and properties of a task and its last runs. The task is given as <type>/<id>, <type>/<name>, or only
<type> if the cluster has one task of it.";

const PROGRESS_LONG: &str = "\
Shows how far a run is: what is uploaded, what the location had already, what failed, per host and with --details
per table. --watch follows it live on a terminal.";

const PROGRESS_EXAMPLES: &str = "\
  sctool progress -c prod-cluster backup/nightly
  sctool progress -c prod-cluster backup/nightly --watch
  The run before the last one, one host, one keyspace:
    sctool progress -c prod-cluster backup/nightly --run ~1 --host 10.20.0.11 -K shop --details";

const START_LONG: &str = "\
Starts a task now, whatever its schedule says. An unfinished run goes on where it stopped, unless --no-continue.";

const STOP_LONG: &str = "\
Stops the running run of a task; it is no error if there is none. The task goes on at its next activation, or with
'sctool start', unless --disable or --delete.";

const SUSPEND_LONG: &str = "\
Stops all tasks of a cluster and starts none until 'sctool resume'. Health checks go on.

With --duration, --cron or --start-date it becomes a task that suspends later, or resumes by itself.";

const SUSPEND_EXAMPLES: &str = "\
  Now, until resumed:
    sctool suspend -c prod-cluster
  Every Saturday night for six hours:
    sctool suspend -c prod-cluster --cron '0 22 * * SAT' --duration 6h --on-resume-start-tasks";
