//! `operations/*` on single files and directories (spec agent.md 2.6.7, 2.6.9, 2.6.11, 2.6.14, 2.6.15).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use common::api::agent::{About, Deleted, FileInfo};
use futures::{Stream, TryStreamExt};
use http::header;

use super::remote::check_move;
use super::{CallError, Params, Rclone, Remote, Work, empty, reply, to_json, work};
use crate::storage::{ObjectPath, StorageError};

/// A caller that sends nothing of its content for so long has gone.
const SILENCE: Duration = Duration::from_secs(300);

impl Rclone {
    pub(super) fn about(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let remote = self.remotes.remote(params)?;
        Ok(work(move |_| async move {
            let space = remote.place.store.about().await?;
            to_json(&About { total: space.total, used: space.used, free: space.free })
        }))
    }

    pub(super) fn file_info(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let remote = self.remotes.remote(params)?;
        Ok(work(move |_| async move {
            let info = remote.place.store.stat(&remote.place.path).await?;
            let size = i64::try_from(info.size).unwrap_or(i64::MAX);
            to_json(&FileInfo { mod_time: info.modified.map_or(String::new(), format_time), size })
        }))
    }

    /// Raw bytes. A failure on the way breaks the connection, so that nobody takes the rest for the whole.
    pub(super) async fn cat(&self, params: &Params) -> Result<Response, CallError> {
        // The refusal comes before everything else: also a path that is none is just not readable.
        let remote = self.remotes.remote(params)?;
        remote.check_readable()?;
        let reader = remote.place.store.open(&remote.place.path, None).await?;
        let headers = [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, reader.length.to_string()),
        ];
        Ok((headers, Body::from_stream(reader.bytes)).into_response())
    }

    /// Stores the body of the request.
    pub(super) async fn put(
        &self,
        params: &Params,
        length: Option<u64>,
        body: Body,
    ) -> Result<Response, CallError> {
        let remote = self.remotes.remote(params)?;
        let _turn = self.puts.acquire().await.expect("the semaphore is never closed");
        let content = patient(body.into_data_stream().map_err(io::Error::other));
        let outcome = self.engine.put(&self.jobs.call(), &remote.place, length, content).await;
        outcome.map_err(|e| writing(e.into()))?;
        Ok(reply(&empty(), 0))
    }

    pub(super) fn copy_file(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let (from, to) = self.remotes.pair(params)?;
        let this = self.clone();
        Ok(work(move |context| async move {
            let outcome = this.engine.copy_file(&context, &from.place, &to.place).await;
            outcome.map_err(|e| writing(e.into()))?;
            Ok(empty())
        }))
    }

    pub(super) fn move_file(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let (from, to) = self.remotes.pair(params)?;
        check_move(&from, &to)?;
        let this = self.clone();
        Ok(work(move |context| async move {
            let outcome = this.engine.move_file(&context, &from.place, &to.place).await;
            outcome.map_err(|e| writing(e.into()))?;
            Ok(empty())
        }))
    }

    pub(super) fn delete_file(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let remote = self.remotes.remote(params)?;
        Ok(work(move |context| async move {
            remote.place.store.delete(&remote.place.path).await?;
            context.deleted(1);
            Ok(empty())
        }))
    }

    pub(super) fn delete_paths(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let remote = self.remotes.remote(params)?;
        let names: Vec<String> = params.structure("paths")?;
        if names.is_empty() {
            return Err(CallError::Refused("empty paths".into()));
        }
        let paths = names.iter().map(|name| file_below(&remote, name)).collect::<Result<Vec<_>, _>>()?;
        Ok(work(move |context| async move {
            let report = match remote.place.store.delete_many(&paths).await {
                // What is not there needs no deletion.
                Err(StorageError::BucketNotFound { .. }) => Default::default(),
                other => other?,
            };
            context.deleted(report.deleted);
            if let Some((path, reason)) = report.failed.first() {
                let failed = report.failed.len();
                tracing::warn!(failed, first = %path, reason, "Files could not be deleted");
                return Err(CallError::Refused(format!(
                    "failed to delete {failed} files, first {path}: {reason}"
                )));
            }
            to_json(&Deleted { deletes: report.deleted })
        }))
    }

    pub(super) fn purge(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let remote = self.remotes.remote(params)?;
        // No manager means a whole bucket or keyspace; the original takes callers at their word.
        if remote.place.path.bucket_and_key().1.is_empty() {
            let text = "a whole bucket or keyspace cannot be purged; name a directory in it";
            return Err(CallError::BadRequest(text.into()));
        }
        Ok(work(move |context| async move {
            match remote.place.store.purge(&remote.place.path).await {
                Ok(files) => context.deleted(files),
                Err(StorageError::BucketNotFound { .. }) => {}
                Err(error) => return Err(CallError::Write(error)),
            }
            context.deleted_dirs(1);
            Ok(empty())
        }))
    }

    /// What only some providers can do, and none of ours.
    pub(super) fn unsupported(&self, params: &Params, what: &'static str) -> Result<Work, CallError> {
        let remote = self.remotes.remote(params)?;
        Err(CallError::Unsupported { provider: remote.place.store.provider().to_owned(), what })
    }
}

/// Fails when nothing arrives for too long, so that nobody keeps the others waiting for ever.
fn patient(
    body: impl Stream<Item = io::Result<Bytes>> + Send,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures::stream::try_unfold(Box::pin(body), |mut body| async move {
        match tokio::time::timeout(SILENCE, body.try_next()).await {
            Ok(next) => Ok(next?.map(|bytes| (bytes, body))),
            Err(_) => {
                let text = format!("no content for {} s", SILENCE.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    })
}

/// A file named by one of `paths`. An empty name would be the directory itself.
fn file_below(remote: &Remote, name: &str) -> Result<ObjectPath, CallError> {
    let relative = ObjectPath::parse(name)?;
    if relative.is_root() {
        return Err(CallError::BadRequest(format!("path {name:?} names no file")));
    }
    Ok(remote.place.path.join(relative.as_str())?)
}

/// Marks a storage failure as one of a call that writes.
fn writing(error: CallError) -> CallError {
    match error {
        CallError::Storage(error) => CallError::Write(error),
        other => other,
    }
}

/// RFC 3339 with as many decimals as there are.
pub(super) fn format_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
