//! `operations/list` (spec agent.md 2.6.8): short listings in one piece, long ones as they are found.
//!
//! The surprise is at the end: when a long listing fails, the connection is broken off. A body that ended
//! cleanly would be taken for a complete listing, and a purge would go by it.

use std::collections::VecDeque;
use std::future::ready;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use common::api::agent::{ListItem, ListOptions};
use futures::channel::mpsc;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, SinkExt, StreamExt, TryStreamExt};
use http::header;
use serde::Serialize;
use serde_json::json;

use super::operations::format_time;
use super::{CallError, Params, Rclone, Remote, reply};
use crate::storage::{Depth, Entry, EntryKind, Place, StorageError};

/// Items that are written at once; a listing of fewer is answered in one piece.
const BATCH: usize = 200;

/// Which entries are shown.
#[derive(Clone, Copy, Debug, Default)]
struct Filter {
    options: ListOptionsCopy,
    /// Hide names with a snapshot tag as suffix.
    newest_only: bool,
    /// Show only those.
    versioned_only: bool,
}

/// The options that have an effect.
#[derive(Clone, Copy, Debug, Default)]
struct ListOptionsCopy {
    recurse: bool,
    files_only: bool,
    dirs_only: bool,
    times: bool,
    mime_types: bool,
    hashes: bool,
}

/// An entry on the wire, with what is only there on request.
#[derive(Debug, Serialize)]
struct WireItem {
    #[serde(flatten)]
    item: ListItem,
    #[serde(rename = "Hashes", skip_serializing_if = "Option::is_none")]
    hashes: Option<serde_json::Value>,
}

type Items = BoxStream<'static, Result<Vec<WireItem>, StorageError>>;

impl Rclone {
    pub(super) async fn list(&self, params: &Params) -> Result<Response, CallError> {
        let remote = self.remotes.remote(params)?;
        let filter = Filter::read(params, &remote)?;
        let mut batches = batches(remote.clone(), filter);
        let mut first: VecDeque<WireItem> = VecDeque::new();
        while first.len() < BATCH {
            match batches.try_next().await {
                Ok(Some(items)) => first.extend(items),
                Ok(None) => return Ok(reply(&json!({ "list": Vec::from(first) }), 0)),
                Err(error) => return Err(refusal(&remote, error)),
            }
        }
        Ok(streamed(first, batches))
    }
}

impl Filter {
    fn read(params: &Params, remote: &Remote) -> Result<Self, CallError> {
        // `remote` must be there, even empty.
        params.required_text("remote")?;
        let options: ListOptions = params.structure("opt")?;
        let filter = Self {
            newest_only: params.flag("newestOnly")?,
            versioned_only: params.flag("versionedOnly")?,
            options: ListOptionsCopy {
                recurse: options.recurse,
                files_only: options.files_only,
                dirs_only: options.dirs_only,
                times: !options.no_mod_time,
                mime_types: !options.no_mime_type,
                hashes: options.show_hash,
            },
        };
        let what = match (options.show_retention_info, options.show_event_based_hold) {
            (true, _) => Some("retention lock"),
            (false, true) => Some("event based hold"),
            (false, false) => None,
        };
        if let Some(what) = what {
            let provider = remote.place.store.provider().to_owned();
            return Err(CallError::Unsupported { provider, what });
        }
        if filter.newest_only && filter.versioned_only {
            return Err(CallError::Refused("newestOnly and versionedOnly exclude each other".into()));
        }
        if (filter.newest_only || filter.versioned_only) && options.dirs_only {
            let text = "newestOnly and versionedOnly select files, so they exclude dirsOnly";
            return Err(CallError::Refused(text.into()));
        }
        Ok(filter)
    }

    fn depth(&self) -> Depth {
        if self.options.recurse { Depth::All } else { Depth::One }
    }

    fn shows(&self, entry: &Entry) -> bool {
        let is_dir = entry.kind == EntryKind::Directory;
        let versioned = is_versioned(entry.name());
        !(is_dir && self.options.files_only
            || !is_dir && self.options.dirs_only
            || self.newest_only && versioned
            || self.versioned_only && !versioned)
    }

    /// Paths are relative to `fs`, not to `remote`.
    fn item(&self, below: &str, entry: Entry) -> WireItem {
        let is_dir = entry.kind == EntryKind::Directory;
        let name = entry.name().to_owned();
        let mime_type = match (self.options.mime_types, is_dir) {
            (false, _) => "",
            (true, true) => "inode/directory",
            (true, false) => mime_type(&name),
        };
        let hashes = entry.md5.filter(|_| self.options.hashes).map(|md5| json!({"MD5": hex::encode(md5)}));
        let item = ListItem {
            path: if below.is_empty() { entry.path } else { format!("{below}/{}", entry.path) },
            size: if is_dir { -1 } else { i64::try_from(entry.size).unwrap_or(i64::MAX) },
            mod_time: entry.modified.filter(|_| self.options.times).map_or(String::new(), format_time),
            is_dir,
            mime_type: mime_type.to_owned(),
            name,
            ..ListItem::default()
        };
        WireItem { item, hashes }
    }
}

/// `*.sm_*UTC`.
fn is_versioned(name: &str) -> bool {
    name.strip_suffix("UTC").is_some_and(|rest| rest.contains(".sm_"))
}

fn mime_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("json") => "application/json",
        Some("gz") => "application/gzip",
        Some("txt" | "cql") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Shown entries in batches as they are found. The listing is driven by whoever polls the stream.
fn batches(remote: Remote, filter: Filter) -> Items {
    let (mut sender, receiver) = mpsc::channel(0);
    let list = async move {
        let below = remote.below.as_str();
        let mut entries = remote.place.store.list(&remote.place.path, filter.depth());
        let (mut batch, mut any) = (Vec::new(), false);
        loop {
            let next = entries.next().await;
            any |= next.is_some();
            match next {
                Some(Ok(entry)) if filter.shows(&entry) => batch.push(filter.item(below, entry)),
                Some(Ok(_)) => {}
                // The receiver is dropped only together with this.
                Some(Err(error)) => return drop(sender.send(Err(error)).await),
                None => {
                    let last = if any { Ok(()) } else { must_not_be_a_file(&remote).await };
                    return drop(sender.send(last.map(|()| batch)).await);
                }
            }
            if batch.len() == BATCH && sender.send(Ok(std::mem::take(&mut batch))).await.is_err() {
                return;
            }
        }
    };
    let driver = list.into_stream().map(|()| None);
    stream::select(receiver.map(Some), driver).filter_map(ready).boxed()
}

/// An object store has no directories, so a file in place of one shows only when there is nothing below it.
async fn must_not_be_a_file(remote: &Remote) -> Result<(), StorageError> {
    let Place { store, path } = &remote.place;
    if store.is_local() || !remote.below.is_root() || path.bucket_and_key().1.is_empty() {
        return Ok(());
    }
    match store.stat(path).await {
        Ok(_) => Err(StorageError::NotADirectory { path: remote.place.to_string() }),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// A file in place of the directory is a bad request only if `fs` names it.
fn refusal(remote: &Remote, error: StorageError) -> CallError {
    match error {
        StorageError::NotADirectory { .. } if !remote.below.is_root() => CallError::Write(error),
        error => error.into(),
    }
}

fn streamed(first: VecDeque<WireItem>, rest: Items) -> Response {
    let head = stream::iter([Ok(first.into_iter().collect::<Vec<_>>())]);
    let batches = head.chain(rest).try_filter(|batch| ready(!batch.is_empty()));
    let chunks = batches.enumerate().map(|(index, batch)| {
        let batch = batch.inspect_err(|error| {
            let error = common::error::chain(error);
            tracing::error!(error, "Listing failed; the connection is broken off");
        })?;
        let before = if index == 0 { "{\"list\":[" } else { "," };
        encode(before, &batch).map_err(BrokenListing::Encode)
    });
    let tail = stream::iter([Ok(Bytes::from_static(b"]}\n"))]);
    let headers = [(header::CONTENT_TYPE, "application/json")];
    // An error is the last thing that comes, whoever goes on asking.
    let until_error = chunks.chain(tail).scan(false, |failed, piece| {
        let shown = (!*failed).then_some(piece);
        *failed = matches!(shown, Some(Err(_)));
        ready(shown)
    });
    (headers, Body::from_stream(until_error)).into_response()
}

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
enum BrokenListing {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("encode items")]
    Encode(#[source] serde_json::Error),
}

/// `before`, then the items.
fn encode(before: &str, batch: &[WireItem]) -> Result<Bytes, serde_json::Error> {
    let mut text = before.as_bytes().to_vec();
    for (index, item) in batch.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, item)?;
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versioned_names() {
        for (name, versioned) in [
            ("me-1-big-Data.db.sm_20230114183231UTC", true),
            ("x.sm_UTC", true),
            ("me-1-big-Data.db", false),
            ("sm_20230114183231UTC", false),
            ("x.sm_2023", false),
        ] {
            assert_eq!(is_versioned(name), versioned, "{name}");
        }
    }
}
