//! `scylla-manager-agent check-location`: can this node use a location? Needs no running Scylla.
//!
//! It does on a small scale everything that a backup does to the bucket, and goes on after a refusal, so that one run
//! shows all permissions that are missing.

mod probe;
mod remedy;

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use common::http_client::Transport;
use common::location::{Location, Provider};

use crate::cloud::{Cloud, MetadataEndpoints};
use crate::config::{Config, S3Config};
use crate::rclone::impatient;
use crate::region::{self, RegionSource};
use crate::size_suffix::RatePair;
use crate::storage::local::LocalStore;
use crate::storage::s3::{Access, CredentialSource, S3Store};
use crate::storage::{ObjectPath, ObjectStore, Place, StorageError};
use crate::transfer::rate_limit::RateLimits;

pub use probe::Step;

/// A location that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The provider is not there on this node.
    #[error("provider {provider} is not available: {hint}")]
    Provider {
        /// Its name.
        provider: Provider,
        /// What to do.
        hint: &'static str,
    },
    /// Steps failed; each with its cause and what to do about it.
    #[error("{location} on host {host}: {}", Lines(failed))]
    Steps {
        /// The location.
        location: String,
        /// Name of this machine.
        host: String,
        /// Step, cause and remedy.
        failed: Vec<String>,
    },
    /// No HTTP client for metadata services.
    #[error("set up the HTTP client for cloud metadata")]
    Client(#[source] reqwest::Error),
}

/// One text beside what stands before it, several on lines of their own.
struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [only] => f.write_str(only),
            all => all.iter().try_for_each(|line| write!(f, "\n  {line}")),
        }
    }
}

/// Checks a location as this process's environment shows it. `say` is told what is done; without it nobody is asked as
/// whom this is.
///
/// # Errors
/// All steps that failed.
pub async fn check_location(
    config: Config,
    location: &Location,
    say: Option<&dyn Fn(&str)>,
) -> Result<(), CheckError> {
    common::tls::install_provider();
    let client = reqwest::Client::builder().no_proxy().build().map_err(CheckError::Client)?;
    let cloud = Cloud::new(MetadataEndpoints::from_env(region::process_env), Transport::Network(client));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let check = Check { location, host, cloud, say };
    check.say(&format!("location: {location}"));
    check.say(&format!("host: {}", check.host));
    match location.provider() {
        Provider::S3 => check.s3(impatient(&config)).await,
        _ => check.local(&impatient(&config)).await,
    }
}

struct Check<'a> {
    location: &'a Location,
    host: String,
    cloud: Cloud,
    say: Option<&'a dyn Fn(&str)>,
}

impl Check<'_> {
    fn say(&self, line: &str) {
        if let Some(say) = self.say {
            say(line);
        }
    }

    async fn s3(&self, mut config: Config) -> Result<(), CheckError> {
        let source = region::fill(&mut config.s3, &self.cloud, &region::process_env).await;
        self.say_endpoint(&config.s3, source);
        let store = S3Store::new(&config.s3, &config.rclone, unlimited(), Arc::new(|_, _, _| {}));
        match store.access().await {
            Ok(access) if self.say.is_some() => self.say_access(&config.s3, &store, access).await,
            Ok(_) => {}
            Err(error) => {
                return Err(self.failed(vec![self.failure("credentials", None, &error, &config.s3)]));
            }
        }
        self.probe(Arc::new(store), &config.s3).await
    }

    async fn local(&self, config: &Config) -> Result<(), CheckError> {
        let missing = |hint| CheckError::Provider { provider: self.location.provider(), hint };
        match (self.location.provider(), &config.localstorage) {
            (Provider::LocalStorage, Some(root)) => {
                self.say(&format!("directory: {}", root.display()));
                self.probe(Arc::new(LocalStore::localstorage(root, unlimited())), &config.s3).await
            }
            (Provider::LocalStorage, None) => {
                Err(missing("set localstorage.path in scylla-manager-agent.yaml"))
            }
            _ => Err(missing("this build supports s3 and localstorage")),
        }
    }

    fn say_endpoint(&self, config: &S3Config, source: RegionSource) {
        self.say(&format!("endpoint: {}", config.endpoint.as_deref().unwrap_or("AWS")));
        self.say(&format!("region: {} ({source})", config.effective_region()));
    }

    async fn say_access(&self, config: &S3Config, store: &S3Store, access: Option<Access>) {
        let Some(access) = access else { return self.say("credentials: none, requests are anonymous") };
        let mut source = access.source.to_string();
        if access.source == CredentialSource::Machine
            && let Some(role) = self.cloud.aws_role().await
        {
            source.push_str(&format!(", role {role}"));
        }
        self.say(&format!("credentials: {source}"));
        let until =
            access.expires.map(|at| DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Secs, true));
        let kind = match (access.temporary, until) {
            (_, Some(until)) => format!(" (temporary, until {until})"),
            (true, None) => " (temporary)".to_owned(),
            (false, None) => String::new(),
        };
        self.say(&format!("access key ID: {}{kind}", access.access_key_id));
        if config.endpoint.is_none() {
            let caller = store.caller().await.unwrap_or_else(|reason| format!("unknown, STS says: {reason}"));
            self.say(&format!("identity: {caller}"));
        }
    }

    async fn probe(&self, store: Arc<dyn ObjectStore>, config: &S3Config) -> Result<(), CheckError> {
        let root = ObjectPath::parse(self.location.bucket())
            .map_err(|error| self.failed(vec![error.to_string()]))?;
        let failures = std::cell::RefCell::new(Vec::new());
        let told = |step: Step, outcome: Result<Option<&'static str>, &StorageError>| match outcome {
            Ok(None) => self.say(&format!("{step}: ok")),
            Ok(Some(note)) => self.say(&format!("{step}: ok, but {note}")),
            Err(error) => {
                let failure = self.failure(&step.to_string(), Some(step), error, config);
                self.say(&failure.replacen(": ", ": FAILED: ", 1));
                failures.borrow_mut().push(failure);
            }
        };
        probe::probe(&Place::new(store, root), &told).await;
        match failures.into_inner() {
            failed if failed.is_empty() => Ok(()),
            failed => Err(self.failed(failed)),
        }
    }

    fn failure(&self, what: &str, step: Option<Step>, error: &StorageError, config: &S3Config) -> String {
        let cause = common::error::chain(error);
        match remedy::remedy(step, error, self.location.bucket(), config) {
            Some(remedy) => format!("{what}: {cause}; {remedy}"),
            None => format!("{what}: {cause}"),
        }
    }

    fn failed(&self, failed: Vec<String>) -> CheckError {
        CheckError::Steps { location: self.location.to_string(), host: self.host.clone(), failed }
    }
}

fn unlimited() -> Arc<RateLimits> {
    Arc::new(RateLimits::new(RatePair::default()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn each_step_is_told_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { localstorage: Some(dir.path().to_owned()), ..Config::default() };
        let location = "localstorage:backups".parse().unwrap();
        let said = RefCell::new(Vec::new());
        let say = |line: &str| said.borrow_mut().push(line.to_owned());
        check_location(config, &location, Some(&say)).await.unwrap();
        let said = said.into_inner();
        assert_eq!(said[0], "location: localstorage:backups");
        assert_eq!(said[3..], ["put: ok", "list: ok", "get: ok", "delete: ok"], "{said:?}");
        assert_eq!(std::fs::read_dir(dir.path().join("backups")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_failure_names_step_host_location_and_cause() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("file");
        std::fs::write(&root, "").unwrap();
        let config = Config { localstorage: Some(root), ..Config::default() };
        let location = "localstorage:backups".parse().unwrap();
        let error = check_location(config, &location, None).await.unwrap_err().to_string();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        assert!(error.starts_with(&format!("localstorage:backups on host {host}: put: ")), "{error}");
    }

    #[tokio::test]
    async fn providers_that_are_not_there_say_what_to_do() {
        for (location, words) in [("localstorage:b", "localstorage.path"), ("gcs:b", "s3 and localstorage")] {
            let location = location.parse().unwrap();
            let error = check_location(Config::default(), &location, None).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn several_failures_take_a_line_each() {
        let error = |failed: &[&str]| CheckError::Steps {
            location: "s3:b".into(),
            host: "db-1".into(),
            failed: failed.iter().map(|f| (*f).to_owned()).collect(),
        };
        assert_eq!(error(&["put: no"]).to_string(), "s3:b on host db-1: put: no");
        assert_eq!(error(&["put: no", "list: no"]).to_string(), "s3:b on host db-1: \n  put: no\n  list: no");
    }
}
