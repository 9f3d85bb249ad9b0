//! HTTP API of the agent: wire types and endpoints (spec agent.md 2 and 4a).
//!
//! Peers leave zero values out, so every field has a default.

/// Names in [`NodeInfo::capabilities`]: what our agent does beyond the original's (spec agent.md 4a).
pub mod capability {
    /// `job/files` lists what a job did with each file.
    pub const JOB_FILES: &str = "job-files";
    /// `sync/movedir` and `copydir` take `overwrite`.
    pub const OVERWRITE: &str = "overwrite";
    /// A rename by suffix never replaces an existing versioned copy.
    pub const SUFFIX_SAFE: &str = "suffix-safe";
    /// `operations/verify` reports the CRC-32 of stored objects.
    pub const VERIFY: &str = "verify";
}

macro_rules! rclone {
    ($(#[$meta:meta])* $name:ident, $path:literal, $body:ty, $reply:ty) => {
        $(#[$meta])*
        pub struct $name;

        impl Endpoint for $name {
            const METHOD: Method = Method::POST;
            const PATH: &'static str = concat!("/agent/rclone/", $path);
            type Query = ();
            type Body = $body;
            type Reply = $reply;
        }
    };
}

macro_rules! wire {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
    };
}

mod files;
mod jobs;
mod node;

pub use files::*;
pub use jobs::*;
pub use node::*;
