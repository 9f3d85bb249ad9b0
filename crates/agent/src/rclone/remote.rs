//! From `fs` and `remote` to a place in a store: provider allow-list, jail, restrictions (spec agent.md 2.5).
//!
//! A place is built here and nowhere else. `fs` is confined lexically as the original does it, `remote` and
//! `paths` may not hold `.` or `..` at all, and the local stores follow no symbolic link on top of that.

use std::path::{Path, PathBuf};

use super::error::CallError;
use super::params::Params;
use crate::storage::{ObjectPath, Place, Stores};

/// Object names that `operations/cat` may read, below the bucket.
const READABLE: [&str; 2] = ["backup/meta/", "backup/schema/"];
/// Digests may be read anywhere.
const READABLE_SUFFIX: &str = ".crc32";

/// The stores with the roots of the local ones.
#[derive(Clone, Debug)]
pub struct Remotes {
    /// All providers.
    pub stores: Stores,
    /// Root of `data`.
    pub data: PathBuf,
    /// Root of `localstorage`.
    pub localstorage: Option<PathBuf>,
}

/// A directory named by `fs`, with the path below it named by `remote`.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The directory of `fs`.
    pub root: Place,
    /// `remote`, clean.
    pub below: ObjectPath,
    /// Both together.
    pub place: Place,
}

impl Remotes {
    /// The place named by `fs` and `remote`. An absent `remote` is empty.
    ///
    /// # Errors
    /// An unknown provider, or a path that is not accepted.
    pub fn remote(&self, params: &Params) -> Result<Remote, CallError> {
        self.resolve(params, "fs", "remote")
    }

    /// The places named by `srcFs`, `srcRemote` and `dstFs`, `dstRemote`.
    ///
    /// # Errors
    /// As for [`remote`](Self::remote).
    pub fn pair(&self, params: &Params) -> Result<(Remote, Remote), CallError> {
        Ok((self.resolve(params, "srcFs", "srcRemote")?, self.resolve(params, "dstFs", "dstRemote")?))
    }

    fn resolve(&self, params: &Params, fs: &'static str, remote: &'static str) -> Result<Remote, CallError> {
        let root = self.root(params.required_text(fs)?, fs)?;
        let below = ObjectPath::parse(params.text(remote)?)?;
        let place = Place::new(root.store.clone(), root.path.join(below.as_str())?);
        Ok(Remote { root, below, place })
    }

    fn root(&self, text: &str, param: &'static str) -> Result<Place, CallError> {
        let (provider, path) = text.split_once(':').unwrap_or(("", text));
        let well_formed = !provider.is_empty()
            && provider.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' '));
        if !well_formed {
            let provider = if provider.is_empty() { text } else { provider };
            return Err(CallError::InvalidProvider { provider: provider.to_owned(), param });
        }
        let store = self.stores.get(provider).ok_or_else(|| CallError::UnknownProvider {
            provider: provider.to_owned(),
            param,
            known: self.stores.names().collect::<Vec<_>>().join(", "),
        })?;
        let path = match self.jail(provider) {
            Some(jail) => confine(jail, path)?,
            None => ObjectPath::parse(path)?,
        };
        Ok(Place::new(store.clone(), path))
    }

    fn jail(&self, provider: &str) -> Option<&Path> {
        match provider {
            "data" => Some(&self.data),
            "localstorage" => self.localstorage.as_deref(),
            _ => None,
        }
    }
}

/// Confines a path to a jail: cleaned as if absolute; inside the jail it is used as it is, otherwise it counts
/// from the jail's root. The result is relative to the jail.
fn confine(jail: &Path, path: &str) -> Result<ObjectPath, CallError> {
    let clean = clean(path);
    if clean.is_empty() && !path.trim_matches('/').is_empty() {
        return Err(CallError::OutsideRoot);
    }
    let absolute = Path::new("/").join(&clean);
    let inside = absolute.strip_prefix(jail).ok().and_then(Path::to_str);
    Ok(ObjectPath::parse(inside.unwrap_or(&clean))?)
}

/// Resolves `.` and `..` by text alone, as if the path began at the root.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Remote {
    /// Whether the provider is a directory of this machine.
    pub fn is_local(&self) -> bool {
        self.place.store.is_local()
    }

    /// `operations/cat` reads manifests, schema files and digests only.
    ///
    /// # Errors
    /// The file is none of these.
    pub fn check_readable(&self) -> Result<(), CallError> {
        let path = self.place.path.as_str();
        let (_, below_bucket) = self.place.path.bucket_and_key();
        let allowed = READABLE.iter().any(|dir| below_bucket.starts_with(dir));
        let named = !self.below.is_root();
        if named && (allowed || path.ends_with(READABLE_SUFFIX)) { Ok(()) } else { Err(CallError::Forbidden) }
    }

    /// The source must be on this machine.
    ///
    /// # Errors
    /// It is not.
    pub fn check_local(&self) -> Result<(), CallError> {
        if self.is_local() { Ok(()) } else { Err(CallError::Forbidden) }
    }
}

/// `operations/movefile` renames within a directory, or takes a file off this machine.
///
/// # Errors
/// Neither.
pub fn check_move(from: &Remote, to: &Remote) -> Result<(), CallError> {
    let same_store = from.place.store.provider() == to.place.store.provider();
    let same_dir = from.place.path.parent() == to.place.path.parent();
    if from.is_local() || (same_store && same_dir) { Ok(()) } else { Err(CallError::Forbidden) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use http::HeaderMap;

    use super::*;
    use crate::config::Config;
    use crate::rclone::params::BodyUse;
    use crate::size_suffix::RatePair;
    use crate::transfer::rate_limit::RateLimits;

    fn remotes() -> Remotes {
        let config = Config { localstorage: Some("/backups".into()), ..Config::default() };
        let limits = Arc::new(RateLimits::new(RatePair::default()));
        let stores = Stores::open(&config, Path::new("/data"), &limits, Arc::new(|_, _, _| {}));
        Remotes { stores, data: "/data".into(), localstorage: config.localstorage }
    }

    async fn params(json: &str) -> Params {
        let headers =
            HeaderMap::from_iter([(http::header::CONTENT_TYPE, "application/json".parse().unwrap())]);
        let mut body = Body::from(json.to_owned());
        Params::read(&headers, "", &mut body, BodyUse::Parameters).await.unwrap()
    }

    #[tokio::test]
    async fn places_are_found_and_confined() {
        for (fs, remote, expected) in [
            ("data:", "", "data:"),
            ("data:/", "", "data:"),
            ("data:ks", "t/f", "data:ks/t/f"),
            ("data:/etc", "", "data:etc"),
            ("data:/data/ks", "x", "data:ks/x"),
            ("data:/data", "x", "data:x"),
            ("data:/data-sibling", "", "data:data-sibling"),
            ("data:ks/../other/./x", "", "data:other/x"),
            ("data:../../etc", "", "data:etc"),
            ("localstorage:b", "backup/meta/m", "localstorage:b/backup/meta/m"),
            ("s3:bucket", "/a//b/", "s3:bucket/a/b"),
            ("s3:bucket/backup", "", "s3:bucket/backup"),
        ] {
            let params = params(&format!("{{\"fs\":{fs:?},\"remote\":{remote:?}}}")).await;
            let found = remotes().remote(&params).unwrap_or_else(|e| panic!("{fs} {remote}: {e}"));
            assert_eq!(found.place.to_string(), expected, "{fs} {remote}");
        }
    }

    #[tokio::test]
    async fn places_outside_are_refused() {
        for (json, status, message) in [
            ("{}", 400, r#"Didn't find key "fs" in input"#),
            (r#"{"fs":1}"#, 400, "expecting a string"),
            (r#"{"fs":"/etc"}"#, 400, "invalid provider /etc in fs param"),
            (r#"{"fs":":local:/etc"}"#, 400, "invalid provider :local:/etc in fs param"),
            (r#"{"fs":"a/b:c"}"#, 400, "invalid provider a/b in fs param"),
            (r#"{"fs":""}"#, 400, "invalid provider  in fs param"),
            (r#"{"fs":"gcs:bucket"}"#, 404, "not configured"),
            (r#"{"fs":"local:/etc"}"#, 404, "not configured"),
            (r#"{"fs":"data:ks/../.."}"#, 404, "accessing path outside of root"),
            (r#"{"fs":"data:."}"#, 404, "accessing path outside of root"),
            (r#"{"fs":"data:ks","remote":"../../x"}"#, 400, "`..` are not allowed"),
            (r#"{"fs":"data:ks","remote":"a/./x"}"#, 400, "`..` are not allowed"),
            (r#"{"fs":"s3:b","remote":"../x"}"#, 400, "`..` are not allowed"),
            (r#"{"fs":"s3:b/../x"}"#, 400, "`..` are not allowed"),
            (r#"{"fs":"data:ks","remote":"a\u0000b"}"#, 400, "NUL"),
        ] {
            let error = remotes().remote(&params(json).await).expect_err(json);
            assert_eq!(error.status().as_u16(), status, "{json}: {error}");
            assert!(error.message().contains(message), "{json}: {error}");
        }
    }

    #[tokio::test]
    async fn cat_reads_metadata_and_digests_only() {
        for (fs, remote, allowed) in [
            ("s3:b", "backup/meta/cluster/x.json.gz", true),
            ("s3:b/backup", "meta/x", true),
            ("s3:b", "backup/schema/x", true),
            ("s3:b", "backup/sst/me-1-big-Digest.crc32", true),
            ("data:ks", "t-1/snapshots/s/me-1-big-Digest.crc32", true),
            ("s3:b", "backup/sst/me-1-big-Data.db", false),
            ("s3:b", "backup/metadata", false),
            ("s3:b", "x/backup/meta/y", false),
            ("s3:b/backup/meta/x", "", false),
            ("data:ks", "t-1/me-1-big-Data.db", false),
            ("s3:b", "", false),
        ] {
            let params = params(&format!("{{\"fs\":{fs:?},\"remote\":{remote:?}}}")).await;
            let found = remotes().remote(&params).unwrap();
            assert_eq!(found.check_readable().is_ok(), allowed, "{fs} {remote}");
        }
    }

    #[tokio::test]
    async fn files_move_within_a_directory_or_off_this_machine() {
        for (from, to, allowed) in [
            (("s3:b", "d/x.tmp"), ("s3:b", "d/x"), true),
            (("s3:b/d", "x.tmp"), ("s3:b", "d/x"), true),
            (("s3:b", "d/x"), ("s3:b", "e/x"), false),
            (("s3:b", "d/x"), ("s3:c", "d/x"), false),
            (("s3:b", "d/x"), ("data:ks", "d/x"), false),
            (("data:ks", "d/x"), ("s3:b", "e/y"), true),
            (("localstorage:b", "d/x"), ("s3:b", "e/y"), true),
        ] {
            let json = serde_json::json!({
                "srcFs": from.0, "srcRemote": from.1, "dstFs": to.0, "dstRemote": to.1
            });
            let (source, target) = remotes().pair(&params(&json.to_string()).await).unwrap();
            assert_eq!(check_move(&source, &target).is_ok(), allowed, "{json}");
        }
    }
}
