//! A bucket that exists only in memory, behind the engine calls that listing and purging make.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use common::api::Endpoint;
use common::api::agent::{
    Cat, CheckPermissions, CheckPermissionsRequest, DeleteFile, DeletePaths, DeletePathsRequest, Deleted,
    List, ListItem, ListRequest, Listing, Purge, RemotePath,
};
use common::format::manifest::{ManifestHeader, TableEntry, Writer};
use common::format::paths::{ManifestPath, SchemaKind, SchemaPath, scylla_manifest_name};
use common::format::versioned;
use common::location::Location;
use http::StatusCode;
use serde_json::json;

/// Name of the only bucket.
pub(crate) const BUCKET: &str = "b";

/// Keyspace, table and version of every file.
pub(crate) const TABLE: (&str, &str, &str) = ("k", "t", "3a1f6c80f0d411ee8a1c000000000001");

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    /// Objects whose content breaks off halfway.
    cut: BTreeSet<String>,
    /// Listings below this prefix end without their brackets, as those of an original agent that failed.
    cut_listings: Option<String>,
    /// Keys that may not be deleted.
    locked: BTreeSet<String>,
    /// Deletions until the agent is killed.
    life: Option<usize>,
    /// Paths of all calls.
    calls: Vec<String>,
    /// What the next access checks get for an answer.
    refused_checks: VecDeque<(StatusCode, String)>,
    /// Places of access checks that went well, as `<fs> <remote>`.
    checked: Vec<String>,
}

/// Shared by the test and the agents.
#[derive(Clone, Default)]
pub(crate) struct FakeBucket {
    state: Arc<Mutex<State>>,
}

impl FakeBucket {
    pub(crate) fn location() -> Location {
        format!("s3:{BUCKET}").parse().unwrap()
    }

    pub(crate) fn put(&self, key: impl ToString, content: impl Into<Bytes>) {
        self.state.lock().unwrap().objects.insert(key.to_string(), content.into());
    }

    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    pub(crate) fn get(&self, key: impl ToString) -> Bytes {
        self.state.lock().unwrap().objects[&key.to_string()].clone()
    }

    pub(crate) fn cut(&self, key: impl ToString) {
        self.state.lock().unwrap().cut.insert(key.to_string());
    }

    pub(crate) fn cut_listings(&self, below: Option<&str>) {
        self.state.lock().unwrap().cut_listings = below.map(str::to_owned);
    }

    pub(crate) fn lock(&self, key: impl ToString, locked: bool) {
        let key = key.to_string();
        let set = &mut self.state.lock().unwrap().locked;
        if locked {
            set.insert(key)
        } else {
            set.remove(&key)
        };
    }

    /// Lets the agents die at a deletion.
    pub(crate) fn die_after(&self, deletions: Option<usize>) {
        self.state.lock().unwrap().life = deletions;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state.lock().unwrap().life == Some(0)
    }

    /// Lets the next access check that is not refused yet fail.
    pub(crate) fn refuse_check(&self, status: StatusCode, message: &str) {
        self.state.lock().unwrap().refused_checks.push_back((status, message.to_owned()));
    }

    /// Places of access checks that went well, as `<fs> <remote>`.
    pub(crate) fn checked(&self) -> Vec<String> {
        self.state.lock().unwrap().checked.clone()
    }

    /// Paths that were asked for since the last call.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }

    /// A copy with the same objects and no faults.
    pub(crate) fn copy(&self) -> Self {
        let objects = self.state.lock().unwrap().objects.clone();
        Self { state: Arc::new(Mutex::new(State { objects, ..State::default() })) }
    }

    /// Stores what a backup of one node leaves: manifest, files, a manifest of Scylla, the schema files.
    pub(crate) fn back_up(&self, path: &ManifestPath, files: &[&str]) {
        let (keyspace, table, version) = TABLE;
        let scylla = scylla_manifest_name(path.tag, &path.node.node, "manifest.json");
        let dir = path.node.table_dir(keyspace, table, version);
        for name in files.iter().chain([&scylla.as_str()]) {
            self.put(format!("{dir}/{name}"), path.tag.to_string());
        }
        let entry = TableEntry {
            keyspace: keyspace.into(),
            table: table.into(),
            version: version.into(),
            files: files.iter().map(|f| (*f).to_owned()).collect(),
            size: files.len() as u64,
            scylla_manifests: vec![scylla],
            ..TableEntry::default()
        };
        let schema = |kind| SchemaPath { cluster: path.node.cluster, task: path.task, tag: path.tag, kind };
        for kind in SchemaKind::ALL {
            self.put(schema(kind), "schema");
        }
        let header =
            ManifestHeader { schema: schema(SchemaKind::Safe).to_string(), ..ManifestHeader::default() };
        self.put(path, pack(&header, &[entry]));
    }

    pub(crate) fn router(&self) -> Router {
        let bucket = self.clone();
        Router::new().fallback(move |request: Request| async move {
            let path = request.uri().path().to_owned();
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
            bucket.answer(&path, &body)
        })
    }

    pub(crate) fn answer(&self, path: &str, body: &[u8]) -> Response {
        let mut state = self.state.lock().unwrap();
        state.calls.push(path.to_owned());
        match path {
            List::PATH => state.list(&serde_json::from_slice(body).unwrap()),
            Cat::PATH => state.cat(&key(&serde_json::from_slice(body).unwrap())),
            DeleteFile::PATH => {
                let key = key(&serde_json::from_slice(body).unwrap());
                match state.delete(&key) {
                    Ok(true) => json!({}).to_string().into_response(),
                    Ok(false) => refused(StatusCode::NOT_FOUND, "object not found"),
                    Err(response) => *response,
                }
            }
            CheckPermissions::PATH => state.check(&serde_json::from_slice(body).unwrap()),
            Purge::PATH => {
                let dir = format!("{}/", key(&serde_json::from_slice(body).unwrap()));
                state.objects.retain(|key, _| !key.starts_with(&dir));
                json!({}).to_string().into_response()
            }
            DeletePaths::PATH => state.delete_paths(&serde_json::from_slice(body).unwrap()),
            other => refused(StatusCode::NOT_FOUND, &format!("no such call: {other}")),
        }
    }
}

/// A packed manifest.
pub(crate) fn pack(header: &ManifestHeader, entries: &[TableEntry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    for entry in entries {
        writer.entry(entry).unwrap();
    }
    writer.finish().unwrap()
}

fn refused(status: StatusCode, message: &str) -> Response {
    (status, json!({ "status": status.as_u16(), "message": message }).to_string()).into_response()
}

/// The key below the bucket; of another bucket one that does not exist.
fn key(path: &RemotePath) -> String {
    let whole = format!("{}/{}", path.fs.trim_end_matches('/'), path.remote);
    let own =
        whole.strip_prefix("s3:").and_then(|p| p.strip_prefix(BUCKET)).and_then(|p| p.strip_prefix('/'));
    own.map_or_else(|| "no such bucket".to_owned(), |p| p.trim_end_matches('/').to_owned())
}

impl State {
    fn check(&mut self, request: &CheckPermissionsRequest) -> Response {
        if let Some((status, message)) = self.refused_checks.pop_front() {
            return refused(status, &message);
        }
        if request.fs != FakeBucket::location().to_string() {
            return refused(StatusCode::BAD_REQUEST, "operation put: no such bucket (code:NoSuchBucket)");
        }
        self.checked.push(format!("{} {}", request.fs, request.remote));
        json!({}).to_string().into_response()
    }

    fn list(&self, request: &ListRequest) -> Response {
        let dir = key(&RemotePath { fs: request.fs.clone(), remote: request.remote.clone() });
        if dir == "no such bucket" {
            return refused(StatusCode::NOT_FOUND, "directory not found");
        }
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let mut list = Vec::new();
        let mut dirs = BTreeSet::new();
        for (key, content) in self.objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            let path = &key[prefix.len()..];
            let versioned = versioned::split(path).1.is_some();
            if (request.versioned_only && !versioned) || (request.newest_only && versioned) {
                continue;
            }
            match path.split_once('/').filter(|_| !request.opt.recurse) {
                Some((sub, _)) if dirs.insert(sub) && !request.opt.files_only => {
                    list.push(ListItem { path: sub.into(), size: -1, is_dir: true, ..ListItem::default() });
                }
                Some(_) => {}
                None if request.opt.dirs_only => {}
                None => {
                    let size = i64::try_from(content.len()).unwrap();
                    list.push(ListItem { path: path.into(), size, ..ListItem::default() });
                }
            }
        }
        let mut text = serde_json::to_string(&Listing { list }).unwrap();
        if self.cut_listings.as_ref().is_some_and(|below| dir.starts_with(below)) {
            text.truncate(text.len() - "]}".len());
        }
        text.into_response()
    }

    fn cat(&self, key: &str) -> Response {
        let Some(content) = self.objects.get(key) else {
            return refused(StatusCode::NOT_FOUND, "object not found");
        };
        let sent = if self.cut.contains(key) { content.slice(..content.len() / 2) } else { content.clone() };
        Response::builder().header("content-length", content.len()).body(sent.into()).unwrap()
    }

    /// Says whether it was there.
    fn delete(&mut self, key: &str) -> Result<bool, Box<Response>> {
        if self.locked.contains(key) {
            return Err(Box::new(refused(StatusCode::FORBIDDEN, "AccessDenied")));
        }
        if let Some(left) = &mut self.life {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| Box::new(refused(StatusCode::NOT_IMPLEMENTED, "killed")))?;
        }
        Ok(self.objects.remove(key).is_some())
    }

    fn delete_paths(&mut self, request: &DeletePathsRequest) -> Response {
        let dir = key(&RemotePath { fs: request.fs.clone(), remote: request.remote.clone() });
        let mut deletes = 0;
        for name in &request.paths {
            match self.delete(&format!("{dir}/{name}")) {
                Ok(there) => deletes += u64::from(there),
                Err(response) => return *response,
            }
        }
        serde_json::to_string(&Deleted { deletes }).unwrap().into_response()
    }
}
