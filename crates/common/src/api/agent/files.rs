//! Files, listings and access to locations (spec agent.md 2.6, `operations`).

use http::Method;
use serde::{Deserialize, Serialize};

use crate::api::{Endpoint, null_as_default};

wire! {
    /// No result: `{}`.
    Empty {}
}

wire! {
    /// A file or directory: `fs` is `<provider>:<bucket>`, `remote` the path below it.
    RemotePath {
        /// `<provider>:<root>`.
        fs: String,
        /// Path below it.
        #[serde(skip_serializing_if = "String::is_empty")]
        remote: String,
    }
}

wire! {
    /// Source and destination.
    SourceAndDestination {
        /// Root of the source.
        #[serde(rename = "srcFs")]
        src_fs: String,
        /// Path of the source.
        #[serde(rename = "srcRemote", skip_serializing_if = "String::is_empty")]
        src_remote: String,
        /// Root of the destination.
        #[serde(rename = "dstFs")]
        dst_fs: String,
        /// Path of the destination.
        #[serde(rename = "dstRemote", skip_serializing_if = "String::is_empty")]
        dst_remote: String,
    }
}

wire! {
    /// Space of a local provider in bytes.
    About {
        /// All.
        total: u64,
        /// Used.
        used: u64,
        /// Available to non-root.
        free: u64,
    }
}

wire! {
    /// Options of a listing (spec agent.md 2.6.8).
    ListOptions {
        /// Descend.
        recurse: bool,
        /// No directories.
        #[serde(rename = "filesOnly")]
        files_only: bool,
        /// No files.
        #[serde(rename = "dirsOnly")]
        dirs_only: bool,
        /// `ModTime` is `""`.
        #[serde(rename = "noModTime")]
        no_mod_time: bool,
        /// No `MimeType`.
        #[serde(rename = "noMimeType")]
        no_mime_type: bool,
        /// GCS only.
        #[serde(rename = "showRetentionInfo")]
        show_retention_info: bool,
        /// GCS only.
        #[serde(rename = "showEventBasedHold")]
        show_event_based_hold: bool,
        /// Hashes.
        #[serde(rename = "showHash")]
        show_hash: bool,
    }
}

wire! {
    /// A listing. `fs` is the complete path, `remote` is always sent.
    ListRequest {
        /// `<provider>:<bucket>/<path>`.
        fs: String,
        /// Empty.
        remote: String,
        /// Options.
        opt: ListOptions,
        /// Hide names with a snapshot tag as suffix.
        #[serde(rename = "newestOnly")]
        newest_only: bool,
        /// Show only those.
        #[serde(rename = "versionedOnly")]
        versioned_only: bool,
    }
}

/// One entry of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ListItem {
    /// Relative to `fs`.
    pub path: String,
    /// Last element.
    pub name: String,
    /// Bytes; -1 for directories.
    pub size: i64,
    /// RFC 3339 or empty.
    pub mod_time: String,
    /// A directory.
    pub is_dir: bool,
    /// Only when asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mime_type: String,
    /// `unlocked` or `locked`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub retention_mode: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub retain_until: String,
    /// Held.
    #[serde(alias = "eventBasedHold", skip_serializing_if = "std::ops::Not::not")]
    pub event_based_hold: bool,
}

wire! {
    /// A whole listing; the body of a big one is streamed instead.
    Listing {
        /// Entries.
        #[serde(deserialize_with = "null_as_default")]
        list: Vec<ListItem>,
    }
}

wire! {
    /// Size and time of a file.
    FileInfo {
        /// RFC 3339.
        #[serde(rename = "modTime")]
        mod_time: String,
        /// Bytes.
        size: i64,
    }
}

wire! {
    /// Files to delete, relative to `fs` and `remote`.
    DeletePathsRequest {
        /// `<provider>:<root>`.
        fs: String,
        /// Directory.
        #[serde(skip_serializing_if = "String::is_empty")]
        remote: String,
        /// Names, literal; 1000 at most by convention.
        #[serde(deserialize_with = "null_as_default")]
        paths: Vec<String>,
    }
}

wire! {
    /// How many files a [`DeletePaths`] deleted.
    Deleted {
        /// Files that were there.
        deletes: u64,
    }
}

wire! {
    /// Access check (spec agent.md 2.6.10).
    CheckPermissionsRequest {
        /// `<provider>:<bucket>`.
        fs: String,
        /// Directory for the scratch object.
        #[serde(skip_serializing_if = "String::is_empty")]
        remote: String,
        /// GCS only.
        #[serde(rename = "retentionMode", skip_serializing_if = "String::is_empty")]
        retention_mode: String,
        /// GCS only.
        #[serde(rename = "overrideUnlocked", skip_serializing_if = "std::ops::Not::not")]
        override_unlocked: bool,
        /// GCS only.
        #[serde(rename = "eventBasedHold", skip_serializing_if = "std::ops::Not::not")]
        event_based_hold: bool,
    }
}

rclone!(/// Free space of a local provider.
    GetAbout, "operations/about", RemotePath, About);
rclone!(/// Content of a small file; the reply is raw bytes.
    Cat, "operations/cat", RemotePath, ());
rclone!(/// Tries put, list, read and delete in a location.
    CheckPermissions, "operations/check-permissions", CheckPermissionsRequest, Empty);
rclone!(/// Copies one file.
    CopyFile, "operations/copyfile", SourceAndDestination, Empty);
rclone!(/// Moves one file.
    MoveFile, "operations/movefile", SourceAndDestination, Empty);
rclone!(/// Deletes one file; missing is 404.
    DeleteFile, "operations/deletefile", RemotePath, Empty);
rclone!(/// Deletes files; missing ones are ignored.
    DeletePaths, "operations/deletepaths", DeletePathsRequest, Deleted);
rclone!(/// Size and time of a file.
    GetFileInfo, "operations/fileinfo", RemotePath, FileInfo);
rclone!(/// Lists a directory; read it as a stream.
    List, "operations/list", ListRequest, Listing);
rclone!(/// Deletes a directory with all in it.
    Purge, "operations/purge", RemotePath, Empty);
rclone!(/// Stores the body; parameters are in the query.
    Put, "operations/put", (), Empty);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_items_use_the_capitalised_keys() {
        let item = ListItem { path: "a/b".into(), name: "b".into(), size: 3, ..Default::default() };
        let text = serde_json::to_string(&item).unwrap();
        assert_eq!(text, r#"{"Path":"a/b","Name":"b","Size":3,"ModTime":"","IsDir":false}"#);
        let held: ListItem = serde_json::from_str(r#"{"Path":"x","eventBasedHold":true}"#).unwrap();
        assert!(held.event_based_hold);
    }
}
