//! What is scheduled and where it stands: task types, run statuses, backup stages.

use std::fmt;
use std::str::FromStr;

use serde_with::{DeserializeFromStr, SerializeDisplay};

macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
        pub enum $name { $($(#[$vmeta])* $variant,)* }

        impl $name {
            /// All values, in their natural order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The text on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(input: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|v| v.as_str() == input)
                    .ok_or_else(|| UnknownName { what: $what, input: input.to_owned() })
            }
        }
    };
}

/// A text that names no value of an enumeration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized {what} {input:?}")]
pub struct UnknownName {
    /// The enumeration, e.g. `Status`.
    pub what: &'static str,
    /// The refused text.
    pub input: String,
}

named_enum! {
    /// Kind of a task.
    TaskType, "TaskType" {
        /// Backup of a cluster.
        Backup = "backup",
        /// Restore of a snapshot.
        Restore = "restore",
        /// Restore onto a mirror cluster.
        OneToOneRestore = "1_1_restore",
        /// Check of the files in a location.
        ValidateBackup = "validate_backup",
        /// Ping of all nodes by CQL, REST or Alternator.
        HealthCheck = "healthcheck",
        /// Repair (out of scope; the name is reserved).
        Repair = "repair",
        /// Tablet repair (out of scope; the name is reserved).
        TabletRepair = "tablet_repair",
        /// Suspend or resume of all tasks of a cluster.
        Suspend = "suspend",
    }
}

named_enum! {
    /// Status of a run, and of a task by its last run.
    TaskStatus, "Status" {
        /// Created, never ran.
        New = "NEW",
        /// Runs now.
        Running = "RUNNING",
        /// A stop was requested.
        Stopping = "STOPPING",
        /// Stopped by the user or by a suspend.
        Stopped = "STOPPED",
        /// Left its window, goes on at the next one; or waits for another run to end.
        Waiting = "WAITING",
        /// Succeeded.
        Done = "DONE",
        /// Failed.
        Error = "ERROR",
        /// Cut short by a shutdown or crash of the manager.
        Aborted = "ABORTED",
    }
}

named_enum! {
    /// Named part of a backup run, in execution order (spec backup-format.md 4).
    Stage, "Stage" {
        /// Resolve the target.
        Init = "INIT",
        /// Take snapshots on the nodes.
        Snapshot = "SNAPSHOT",
        /// Dump the schema.
        AwaitSchema = "AWAIT_SCHEMA",
        /// List the files of the snapshots.
        Index = "INDEX",
        /// Upload temporary manifests.
        Manifest = "MANIFEST",
        /// Upload the schema.
        Schema = "SCHEMA",
        /// Drop what the bucket already has.
        Deduplicate = "DEDUPLICATE",
        /// Upload the rest.
        Upload = "UPLOAD",
        /// Publish the manifests.
        MoveManifest = "MOVE_MANIFEST",
        /// Set retention locks.
        RetentionLock = "RETENTION_LOCK",
        /// Legacy, does nothing.
        Migrate = "MIGRATE",
        /// Remove what retention lets go.
        Purge = "PURGE",
        /// All done.
        Done = "DONE",
    }
}

impl Stage {
    /// The words next to the status in `progress`; empty for `DONE`.
    pub fn description(self) -> &'static str {
        match self {
            Self::Init => "initialising",
            Self::Snapshot => "taking snapshot",
            Self::AwaitSchema => "awaiting schema agreement",
            Self::Index => "indexing files",
            Self::Manifest => "uploading manifests",
            Self::Schema => "uploading schema",
            Self::Deduplicate => "deduplicating the snapshot",
            Self::Upload => "uploading data",
            Self::MoveManifest => "moving manifests",
            Self::RetentionLock => "setting retention locks",
            Self::Migrate => "migrating legacy metadata",
            Self::Purge => "retention",
            Self::Done => "",
        }
    }

    /// The prefix of an error of this stage: lower case, blanks for underscores.
    pub fn error_prefix(self) -> String {
        self.as_str().to_lowercase().replace('_', " ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for stage in Stage::ALL {
            assert_eq!(stage.as_str().parse::<Stage>().unwrap(), *stage);
        }
        assert_eq!("X".parse::<TaskStatus>().unwrap_err().to_string(), "unrecognized Status \"X\"");
        assert!(Stage::Upload < Stage::MoveManifest);
        assert_eq!(Stage::MoveManifest.error_prefix(), "move manifest");
    }
}
