//! `cluster` and `status` (spec/sctool.md 2.9 to 2.12).

use clap::{Args, Command};
use common::ids::ClusterId;

use super::shared::{ClusterFlag, OptionalCluster, OutputFlag};
use super::{group, leaf, leaf_with};
use crate::grammar::label::LabelChange;
use crate::values::{Int, Switch};

/// What `add` and `update` have in common, apart from the host.
#[derive(Debug, Clone, Default, Args)]
pub struct ClusterOptions {
    /// Alias, usable in place of the ID
    #[arg(short, long, value_name = "alias")]
    pub name: Option<String>,
    /// Port of the agents (default 10001)
    #[arg(long, value_name = "int")]
    pub port: Option<Int>,
    /// Token that the agents are configured with
    #[arg(long, value_name = "token")]
    pub auth_token: Option<String>,
    /// CQL user; needed to back up the schema
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password of the CQL user
    #[arg(short, long)]
    pub password: Option<String>,
    /// Alternator access key ID
    #[arg(long, value_name = "id")]
    pub alternator_access_key_id: Option<String>,
    /// Alternator secret access key
    #[arg(long, value_name = "secret")]
    pub alternator_secret_access_key: Option<String>,
    /// File with the client certificate for CQL, PEM
    #[arg(long, value_name = "path")]
    pub ssl_user_cert_file: Option<String>,
    /// File with the private key of the client certificate, PEM
    #[arg(long, value_name = "path")]
    pub ssl_user_key_file: Option<String>,
    /// Comma-separated list of labels to set, key=value, or to remove, key-
    #[arg(long, value_name = "list", action = clap::ArgAction::Append)]
    pub label: Option<Vec<LabelChange>>,
    /// Never use TLS for CQL connections to the cluster
    #[arg(long)]
    pub force_tls_disabled: Option<Switch>,
    /// Use the plain CQL port even when TLS is on
    #[arg(long)]
    pub force_non_ssl_session_port: Option<Switch>,
}

#[derive(Debug, Clone, Args)]
pub struct ClusterAdd {
    /// Address of any one node; the others are found through it
    #[arg(long)]
    pub host: String,
    /// ID of the cluster (default a new one)
    #[arg(short, long, value_name = "uuid")]
    pub id: Option<ClusterId>,
    #[command(flatten)]
    pub options: ClusterOptions,
    /// Create no weekly repair task; accepted for compatibility, repair is out of scope here
    #[arg(long)]
    pub without_repair: Option<Switch>,
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct ClusterUpdate {
    #[command(flatten)]
    pub cluster: ClusterFlag,
    /// Address of any one node; the others are found through it
    #[arg(long)]
    pub host: Option<String>,
    #[command(flatten)]
    pub options: ClusterOptions,
    /// Forget the CQL user and password
    #[arg(long)]
    pub delete_cql_credentials: Option<Switch>,
    /// Forget the Alternator key pair
    #[arg(long)]
    pub delete_alternator_credentials: Option<Switch>,
    /// Forget the client certificate and its key
    #[arg(long)]
    pub delete_ssl_user_cert: Option<Switch>,
}

#[derive(Debug, Clone, Args)]
pub struct ClusterDelete {
    #[command(flatten)]
    pub cluster: ClusterFlag,
}

#[derive(Debug, Clone, Args)]
pub struct ClusterList {
    #[command(flatten)]
    pub output: OutputFlag,
}

#[derive(Debug, Clone, Args)]
pub struct Status {
    #[command(flatten)]
    pub cluster: OptionalCluster,
    #[command(flatten)]
    pub output: OutputFlag,
}

pub fn command() -> Command {
    group("cluster", "Add, change, delete and list clusters")
        .after_help("  sctool cluster list\n  sctool cluster add --help")
        .subcommand(
            leaf::<ClusterAdd>("add", "Add a cluster", ADD_LONG)
                .override_usage("--host <IP> [--name <alias>] [--auth-token <token>] [flags]")
                .after_help(ADD_EXAMPLES),
        )
        .subcommand(
            leaf_with::<ClusterUpdate>("update", "Change a cluster")
                .override_usage("--cluster <id|name> [flags]")
                .after_help(
                    "  sctool cluster update -c prod-cluster --username scylla_manager --password secret",
                ),
        )
        .subcommand(
            leaf::<ClusterDelete>("delete", "Delete a cluster from the manager", DELETE_LONG)
                .override_usage("--cluster <id|name>")
                .after_help("  sctool cluster delete -c prod-cluster"),
        )
        .subcommand(
            leaf_with::<ClusterList>("list", "Show the clusters")
                .override_usage("[flags]")
                .after_help("  sctool cluster list\n  sctool cluster list -o json"),
        )
}

pub fn status() -> Command {
    leaf::<Status>("status", "Show the state of the nodes", STATUS_LONG)
        .override_usage("[--cluster <id|name>] [flags]")
        .after_help("  sctool status -c prod-cluster")
}

const ADD_LONG: &str = "\
Adds a cluster: finds its nodes through one of them, checks that every agent answers, prints the ID of the cluster.

The agents must run with the same token as given here. With --username and --password backups hold the schema as
CQL, which a restore needs.";

const ADD_EXAMPLES: &str = "\
  sctool cluster add --host 10.20.0.11 --name prod-cluster --auth-token \"$TOKEN\"
  sctool cluster add --host 10.20.0.11 --name prod-cluster --auth-token \"$TOKEN\" --username scylla --password secret";

const DELETE_LONG: &str = "\
Deletes a cluster and its tasks from the manager, without asking. The cluster itself and its backups stay.";

const STATUS_LONG: &str = "\
Shows every node of a cluster: its state, whether Alternator, CQL and the REST API answer and how fast, its machine
and the releases that run on it. U/D: up, down; N/L/J/M: normal, leaving, joining, moving.";
