//! Flags that several commands share (spec/sctool.md 2.1).

use std::fmt;
use std::str::FromStr;

use clap::Args;
use common::location::Location;
use common::units::{DcLimit, TaskDuration};

use crate::grammar::cron::CronExpr;
use crate::grammar::date::When;
use crate::grammar::label::LabelChange;
use crate::grammar::pattern::Pattern;
use crate::values::{Csv, Int, Switch, joined, joined_text};

/// How a command prints its result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Table,
    /// One versioned JSON document on stdout, for programs.
    Json,
}

#[derive(Debug, thiserror::Error)]
#[error("unknown output format {0:?}, use table or json")]
pub struct InvalidFormat(String);

impl FromStr for OutputFormat {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            _ => Err(InvalidFormat(text.to_owned())),
        }
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Json => "json",
        })
    }
}

#[derive(Debug, Clone, Default, Args)]
pub struct OutputFlag {
    /// How to print the result: table, for people, or json, one versioned document for programs (default table)
    #[arg(short = 'o', long, value_name = "format")]
    pub output: Option<OutputFormat>,
}

impl OutputFlag {
    pub fn format(&self) -> OutputFormat {
        self.output.unwrap_or_default()
    }
}

#[derive(Debug, Clone, Args)]
pub struct ClusterFlag {
    /// The target cluster, by name or ID (default $SCYLLA_MANAGER_CLUSTER)
    #[arg(short, long, value_name = "name|id")]
    pub cluster: String,
}

#[derive(Debug, Clone, Default, Args)]
pub struct OptionalCluster {
    /// The target cluster, by name or ID; all clusters if left out (default $SCYLLA_MANAGER_CLUSTER)
    #[arg(short, long, value_name = "name|id")]
    pub cluster: Option<String>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct LocationFlag {
    /// Comma-separated list of backup locations, [<dc>:]<provider>:<bucket>, e.g. s3:my-backups or
    /// eu-dc:s3:eu-backups. With <dc> the location serves the nodes of that datacenter only
    #[arg(short = 'L', long, value_name = "list")]
    pub location: Option<Vec<Csv<Location>>>,
}

impl LocationFlag {
    pub fn texts(&self) -> Option<Vec<String>> {
        joined_text(&self.location)
    }
}

#[derive(Debug, Clone, Default, Args)]
pub struct KeyspaceFlag {
    /// Comma-separated list of globs that select keyspaces and tables; ! in front excludes, the last match decides,
    /// e.g. 'shop,!shop.carts' (quote them, the shell knows * and !)
    #[arg(short = 'K', long, value_name = "list")]
    pub keyspace: Option<Vec<Csv<Pattern>>>,
}

impl KeyspaceFlag {
    pub fn texts(&self) -> Option<Vec<String>> {
        joined_text(&self.keyspace)
    }
}

#[derive(Debug, Clone, Default, Args)]
pub struct DcFlag {
    /// Comma-separated list of globs that select datacenters; ! in front excludes, e.g. 'dc1' or '*,!dc2'
    #[arg(long, value_name = "list")]
    pub dc: Option<Vec<Csv<Pattern>>>,
}

impl DcFlag {
    pub fn texts(&self) -> Option<Vec<String>> {
        joined_text(&self.dc)
    }
}

/// When a task runs, and under which name.
#[derive(Debug, Clone, Default, Args)]
pub struct ScheduleFlags {
    /// Task name, usable in place of the ID; unique per cluster and task type
    #[arg(long)]
    pub name: Option<String>,
    /// Comma-separated list of labels to set, key=value, or to remove, key-
    #[arg(long, value_name = "list", action = clap::ArgAction::Append)]
    pub label: Option<Vec<LabelChange>>,
    /// Schedule as a cron expression: minute hour day-of-month month day-of-week, optionally seconds in front;
    /// or @daily, @weekly, @every 12h and the like
    #[arg(long, value_name = "expr")]
    pub cron: Option<CronExpr>,
    /// Comma-separated list of points in time that open and close windows, [<weekday>-]HH:MM, e.g. 23:00,06:00 or
    /// SAT-08:00,SUN-22:00; or of ranges, each for the weekdays before it: SAT,SUN-00:00-06:00 is open in both nights
    /// from midnight to six. A run that reaches the end of its window goes on at the next begin
    #[arg(long, value_name = "list")]
    pub window: Option<Vec<Csv<String>>>,
    /// Time zone in which --cron and --window are read, e.g. Europe/Oslo (default the local zone)
    #[arg(long, value_name = "zone")]
    pub timezone: Option<String>,
    /// First activation, or with --cron not before: RFC 3339, e.g. 2026-03-02T04:30:00Z, or now+<duration>, e.g.
    /// now+3h
    #[arg(short, long, value_name = "date")]
    pub start_date: Option<When>,
    /// Time between activations, e.g. 24h or 7d; units d, h, m, s. Deprecated, --cron says it better
    #[arg(short, long, value_name = "duration")]
    pub interval: Option<TaskDuration>,
    /// How often a failed run is repeated (default 3)
    #[arg(short = 'r', long, value_name = "int")]
    pub num_retries: Option<Int>,
    /// Wait before the first repetition; doubles each time (default 10m)
    #[arg(long, value_name = "duration")]
    pub retry_wait: Option<TaskDuration>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct EnabledFlag {
    /// A disabled task never runs and shows up only in 'tasks --all' (default true)
    #[arg(long)]
    pub enabled: Option<Switch>,
}

/// The update commands know the flag by the letter that 2.x gave it, and take its value as the next word too.
#[derive(Debug, Clone, Default, Args)]
pub struct EnabledUpdateFlag {
    /// A disabled task never runs and shows up only in 'tasks --all'
    #[arg(short, long)]
    pub enabled: Option<Switch>,
}

/// A task as the user names it.
#[derive(Debug, Clone, Args)]
pub struct TaskArgument {
    /// <type>, <type>/<id> or <type>/<name>
    pub task: String,
}

#[derive(Debug, Clone, Default, Args)]
pub struct OptionalTask {
    /// <type>, <type>/<id> or <type>/<name>; the only task of the type if left out
    pub task: Option<String>,
}

/// Limits as text for the wire.
pub fn limits(flag: &Option<Vec<Csv<DcLimit>>>) -> Option<Vec<String>> {
    joined_text(flag)
}

/// Window points as typed.
pub fn window_points(flag: &Option<Vec<Csv<String>>>) -> Option<Vec<String>> {
    joined(flag)
}
