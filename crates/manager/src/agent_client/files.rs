//! The agent's calls on files and listings (spec agent.md 2.6).
//!
//! Paths are remote paths such as `s3:bucket/backup/meta/x` or `data:keyspace/table-id`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::api::Endpoint;
use common::api::agent::{
    About, Cat, CheckPermissions, CheckPermissionsRequest, CopyFile, DeleteFile, DeletePaths,
    DeletePathsRequest, FileInfo, GetAbout, GetFileInfo, List, ListItem, ListRequest, MoveFile, Purge, Put,
    RemotePath, SourceAndDestination,
};
use common::http_client::{ByteStream, Call, ClientError, encode_segment, endpoint_call};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::header::{self, HeaderMap, HeaderValue};

use super::listing::{ListParser, ListingError};
use super::policy::{CallOptions, RetryOn};
use super::{Agent, HostError};

/// Items of a listing as they arrive; an error is the last thing that comes.
pub type Listed = BoxStream<'static, Result<ListItem, HostError>>;

/// Names in one `deletepaths` call (the original's batch size).
const DELETE_BATCH: usize = 1000;

/// Limit of one `deletepaths` call (spec agent.md 2.6.14).
const DELETE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Limit of calls that move bytes within one request: a server-side copy, a small upload.
const COPY_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Limit until the next piece of a listing of versioned files, which may skip millions of names in between.
const VERSIONED_LIST_TIMEOUT: Duration = Duration::from_secs(3600);

/// Outcome of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is at its destination now.
    Done,
    /// The source does not exist. After a lost reply this also means "moved by an earlier attempt": look at the
    /// destination before you believe that it is gone.
    SourceMissing,
}

/// Splits `s3:bucket/a/b` into `s3:bucket` and `a/b`.
pub fn split_remote_path(path: &str) -> (&str, &str) {
    path.split_once('/').unwrap_or((path, ""))
}

fn remote(path: &str) -> RemotePath {
    let (fs, remote) = split_remote_path(path);
    RemotePath { fs: fs.to_owned(), remote: remote.to_owned() }
}

fn source_and_destination(source: &str, destination: &str) -> SourceAndDestination {
    let (from, to) = (remote(source), remote(destination));
    SourceAndDestination { src_fs: from.fs, src_remote: from.remote, dst_fs: to.fs, dst_remote: to.remote }
}

impl Agent {
    /// Lists a directory as a stream. A missing directory or bucket is an error with status 404.
    ///
    /// The time limit is `agent_client.list_timeout` per piece. Opening is retried, reading is not.
    ///
    /// # Errors
    /// No listing; errors that come later, a listing cut short among them, come out of the stream.
    pub async fn list(&self, dir: &str, request: ListRequest) -> Result<Listed, HostError> {
        let request = ListRequest { fs: dir.to_owned(), remote: String::new(), ..request };
        let timeout =
            if request.versioned_only { VERSIONED_LIST_TIMEOUT } else { self.settings().list_timeout };
        let body = self.open::<List>(&request, self.options().timeout(timeout)).await?.1;
        Ok(items(body, self.host.clone()))
    }

    /// Like [`Agent::list`], but what does not exist is empty.
    ///
    /// # Errors
    /// See [`Agent::list`].
    pub async fn list_if_exists(&self, dir: &str, request: ListRequest) -> Result<Listed, HostError> {
        match self.list(dir, request).await {
            Err(error) if error.is_not_found() => Ok(futures::stream::empty().boxed()),
            outcome => outcome,
        }
    }

    /// Content of a file as a stream; a body shorter than announced is an error at its end.
    ///
    /// # Errors
    /// Missing (404), or outside of what may be read.
    pub async fn cat_stream(
        &self,
        path: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, HostError>>, HostError> {
        let options = self.options().timeout(self.settings().list_timeout);
        let (head, body) = self.open::<Cat>(&remote(path), options).await?;
        let host = self.host.clone();
        Ok(complete(body, content_length(&head)).map_err(move |e| HostError::new(&host, e)).boxed())
    }

    /// Content of a small file.
    ///
    /// # Errors
    /// As for [`Agent::cat_stream`], or longer than `limit` bytes.
    pub async fn cat(&self, path: &str, limit: usize) -> Result<Bytes, HostError> {
        self.policy()
            .run(&self.host, self.options(), |timeout| async move {
                let call = endpoint_call::<Cat>(&self.base, &[], &(), Some(&remote(path)))?.timeout(timeout);
                let url = self.url(Cat::PATH);
                let (head, body) = self.shared.http.open(call).await?;
                let mut body = complete(body, content_length(&head));
                let mut content = Vec::new();
                while let Some(bytes) = body.try_next().await? {
                    if content.len() + bytes.len() > limit {
                        let reason = format!("{path} is longer than {limit} bytes");
                        return Err(ClientError::Request { method: Cat::METHOD, url, reason });
                    }
                    content.extend_from_slice(&bytes);
                }
                Ok(Bytes::from(content))
            })
            .await
    }

    /// Writes a file; an identical one is left alone.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn put(&self, path: &str, content: Bytes) -> Result<(), HostError> {
        let (fs, remote) = split_remote_path(path);
        let url =
            self.url(&format!("{}?fs={}&remote={}", Put::PATH, encode_segment(fs), encode_segment(remote)));
        self.send(self.options().timeout(COPY_TIMEOUT), |timeout| {
            let mut call = Call::new(Put::METHOD, url.clone()).timeout(timeout);
            call.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            call.body = content.clone();
            call
        })
        .await
        .map(drop)
    }

    /// Moves a file.
    ///
    /// # Errors
    /// See [`HostError`]; a missing source is none.
    pub async fn move_file(&self, source: &str, destination: &str) -> Result<Moved, HostError> {
        let body = source_and_destination(source, destination);
        match self.call::<MoveFile>(Some(&body), self.options().timeout(COPY_TIMEOUT)).await {
            Ok(_) => Ok(Moved::Done),
            Err(error) if error.is_not_found() => Ok(Moved::SourceMissing),
            Err(error) => Err(error),
        }
    }

    /// Copies a file, within a bucket without moving its bytes through the node.
    ///
    /// # Errors
    /// See [`HostError`]; a missing source is status 404.
    pub async fn copy_file(&self, source: &str, destination: &str) -> Result<(), HostError> {
        let body = source_and_destination(source, destination);
        self.call::<CopyFile>(Some(&body), self.options().timeout(COPY_TIMEOUT)).await.map(drop)
    }

    /// Deletes a file; says whether it was there.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn delete_file(&self, path: &str) -> Result<bool, HostError> {
        match self.call::<DeleteFile>(Some(&remote(path)), self.options()).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes files of a directory in batches; missing ones are ignored. Returns how many were there.
    ///
    /// # Errors
    /// See [`HostError`]; batches before the failed one are deleted.
    pub async fn delete_paths(&self, dir: &str, names: &[String]) -> Result<u64, HostError> {
        let (fs, remote) = split_remote_path(dir);
        let mut deleted = 0;
        for batch in names.chunks(DELETE_BATCH) {
            let body =
                DeletePathsRequest { fs: fs.to_owned(), remote: remote.to_owned(), paths: batch.to_vec() };
            let options = self.options().timeout(DELETE_TIMEOUT);
            deleted += self.call::<DeletePaths>(Some(&body), options).await?.deletes;
        }
        Ok(deleted)
    }

    /// Deletes a directory with all that is in it; a missing one is no error.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn purge(&self, dir: &str) -> Result<(), HostError> {
        match self.call::<Purge>(Some(&remote(dir)), self.options().timeout(DELETE_TIMEOUT)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Size and time of a file; `None` when it does not exist.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn file_info(&self, path: &str) -> Result<Option<FileInfo>, HostError> {
        match self.call::<GetFileInfo>(Some(&remote(path)), self.options()).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Space on the file system of a local provider, e.g. `data:`.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn about(&self, fs: &str) -> Result<About, HostError> {
        let body = RemotePath { fs: fs.to_owned(), remote: String::new() };
        self.call::<GetAbout>(Some(&body), self.options()).await
    }

    /// Has the agent write, list, read and delete a scratch object below `dir`.
    ///
    /// The agent tries each step once, and answers 503 where a later check may go better: only such an answer, or
    /// none, is followed by another try. What a bucket refuses now it refuses in a second, too.
    ///
    /// # Errors
    /// The refusal; the text holds `NoSuchBucket` when that is the cause.
    pub async fn check_permissions(&self, dir: &str) -> Result<(), HostError> {
        let (fs, remote) = split_remote_path(dir);
        let body = CheckPermissionsRequest { fs: fs.into(), remote: remote.into(), ..Default::default() };
        let options = self.options().timeout(self.settings().list_timeout).retry(RetryOn::Unavailable);
        self.call::<CheckPermissions>(Some(&body), options).await.map(drop)
    }

    /// Opens a streamed answer under the retry policy.
    async fn open<E>(
        &self,
        body: &E::Body,
        options: CallOptions,
    ) -> Result<(HeaderMap, ByteStream), HostError>
    where
        E: Endpoint<Query = ()>,
    {
        self.policy()
            .run(&self.host, options, |timeout| async move {
                let call = endpoint_call::<E>(&self.base, &[], &(), Some(body))?.timeout(timeout);
                self.shared.http.open(call).await
            })
            .await
    }
}

fn content_length(head: &HeaderMap) -> Option<u64> {
    head.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Adds an error to a body that is shorter than announced.
fn complete(body: ByteStream, length: Option<u64>) -> ByteStream {
    let Some(length) = length else { return body };
    futures::stream::try_unfold((body, length), |(mut body, left)| async move {
        match body.try_next().await? {
            Some(bytes) => {
                let left = left.saturating_sub(bytes.len() as u64);
                Ok(Some((bytes, (body, left))))
            }
            None if left == 0 => Ok(None),
            None => Err(ClientError::Body {
                method: Cat::METHOD,
                url: Cat::PATH.to_owned(),
                source: format!("{left} bytes are missing").into(),
            }),
        }
    })
    .boxed()
}

/// Turns the body of a listing into items.
fn items(body: ByteStream, host: String) -> Listed {
    struct Reading {
        body: ByteStream,
        parser: Option<ListParser>,
        ready: std::vec::IntoIter<ListItem>,
        host: Arc<str>,
    }
    let failed = |host: &str, error: ListingError| {
        let (method, url) = (List::METHOD, List::PATH.to_owned());
        HostError::new(host, ClientError::Body { method, url, source: Box::new(error) })
    };
    let reading =
        Reading { body, parser: Some(ListParser::new()), ready: Vec::new().into_iter(), host: host.into() };
    futures::stream::try_unfold(reading, move |mut reading| async move {
        loop {
            if let Some(item) = reading.ready.next() {
                return Ok(Some((item, reading)));
            }
            let Some(parser) = &mut reading.parser else { return Ok(None) };
            match reading.body.try_next().await.map_err(|e| HostError::new(&reading.host, e))? {
                Some(bytes) => {
                    let items = parser.feed(&bytes).map_err(|e| failed(&reading.host, e))?;
                    reading.ready = items.into_iter();
                }
                None => {
                    if let Some(parser) = reading.parser.take() {
                        parser.finish().map_err(|e| failed(&reading.host, e))?;
                    }
                }
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use axum::routing::{get, post};

    use super::super::tests::client_into;
    use super::*;

    const HOST: &str = "192.0.2.11";

    fn agent(router: Router) -> Agent {
        client_into(&[HOST], move |_| Some(router.clone())).on(HOST.parse().unwrap())
    }

    fn listing_of(bodies: Vec<Result<&'static str, &'static str>>) -> Agent {
        let handler = move || {
            let pieces = bodies.clone().into_iter().map(|b| b.map_err(std::io::Error::other));
            async move { Body::from_stream(futures::stream::iter(pieces)) }
        };
        agent(Router::new().route(List::PATH, post(handler)))
    }

    #[tokio::test]
    async fn a_listing_comes_item_by_item() {
        let agent = listing_of(vec![Ok(r#"{"list":[{"Path":"a","Size":3},{"Pa"#), Ok(r#"th":"b"}]}"#)]);
        let items: Vec<ListItem> =
            agent.list("s3:b/x", ListRequest::default()).await.unwrap().try_collect().await.unwrap();
        assert_eq!(items.iter().map(|i| i.path.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[tokio::test]
    async fn a_listing_that_ends_early_or_breaks_off_is_an_error_that_names_the_host() {
        for (bodies, text) in [
            (vec![Ok(r#"{"list":[{"Path":"a"}"#)], "without its closing brackets"),
            (vec![Ok(r#"{"list":[{"Path":"a"},"#), Err("reset")], "answer broken off"),
        ] {
            let stream = listing_of(bodies).list("s3:b/x", ListRequest::default()).await.unwrap();
            let outcome: Result<Vec<ListItem>, _> = stream.try_collect().await;
            let message = common::error::chain(&outcome.unwrap_err());
            assert!(message.starts_with(HOST) && message.contains(text), "{message}");
        }
    }

    #[tokio::test]
    async fn what_does_not_exist_is_empty_only_when_asked_so() {
        let missing =
            || async { (StatusCode::NOT_FOUND, r#"{"status":404,"message":"directory not found"}"#) };
        let agent = agent(Router::new().route(List::PATH, post(missing)));
        assert!(agent.list("s3:b/x", ListRequest::default()).await.err().unwrap().is_not_found());
        let items = agent.list_if_exists("s3:b/x", ListRequest::default()).await.unwrap();
        assert_eq!(items.count().await, 0);
    }

    #[tokio::test]
    async fn a_file_shorter_than_announced_is_an_error() {
        let handler =
            || async { ([("content-length", "10")], Body::from_stream(once("abc"))).into_response() };
        let agent = agent(Router::new().route(Cat::PATH, post(handler)));
        let pieces: Result<Vec<Bytes>, _> =
            agent.cat_stream("s3:b/backup/meta/x").await.unwrap().try_collect().await;
        assert!(common::error::chain(&pieces.unwrap_err()).contains("7 bytes are missing"));
    }

    fn once(text: &'static str) -> impl futures::Stream<Item = Result<&'static str, std::io::Error>> {
        futures::stream::iter([Ok(text)])
    }

    #[tokio::test]
    async fn a_file_longer_than_allowed_is_refused() {
        let agent = agent(Router::new().route(Cat::PATH, post(|| async { "abcdef" })));
        assert_eq!(agent.cat("s3:b/backup/meta/x", 6).await.unwrap(), "abcdef");
        let error = agent.cat("s3:b/backup/meta/x", 5).await.unwrap_err();
        assert!(common::error::chain(&error).contains("longer than 5 bytes"));
    }

    #[tokio::test]
    async fn a_move_without_a_source_says_so() {
        let missing = || async { (StatusCode::NOT_FOUND, r#"{"status":404,"message":"object not found"}"#) };
        let agent = agent(Router::new().route(MoveFile::PATH, post(missing)));
        assert_eq!(agent.move_file("s3:b/a.tmp", "s3:b/a").await.unwrap(), Moved::SourceMissing);
    }

    #[tokio::test]
    async fn deletes_go_in_batches_and_are_counted() {
        let handler = |body: String| async move {
            let request: DeletePathsRequest = serde_json::from_str(&body).unwrap();
            assert!(request.fs == "s3:b" && request.remote == "x/y" && request.paths.len() <= 1000);
            format!(r#"{{"deletes":{}}}"#, request.paths.len())
        };
        let agent = agent(Router::new().route(DeletePaths::PATH, post(handler)));
        let names: Vec<String> = (0..2500).map(|i| i.to_string()).collect();
        assert_eq!(agent.delete_paths("s3:b/x/y", &names).await.unwrap(), 2500);
    }

    #[tokio::test]
    async fn put_sends_its_place_in_the_query() {
        let handler = |axum::extract::RawQuery(query): axum::extract::RawQuery, body: String| async move {
            assert_eq!(query.as_deref(), Some("fs=s3%3Ab&remote=backup%2Fmeta%2Fx"));
            assert_eq!(body, "content");
            "{}"
        };
        let agent = agent(
            Router::new()
                .route(Put::PATH, post(handler))
                .route("/ping", get(|| async { StatusCode::NO_CONTENT })),
        );
        agent.put("s3:b/backup/meta/x", Bytes::from_static(b"content")).await.unwrap();
        agent.ping(Duration::from_secs(1)).await.unwrap();
    }
}
