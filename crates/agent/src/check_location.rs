//! `scylla-manager-agent check-location`: can this node use a location? Needs no running Scylla.

use std::sync::Arc;

use common::http_client::Transport;
use common::location::{Location, Provider};

use crate::agent::fill_region;
use crate::cloud::{Cloud, MetadataEndpoints};
use crate::config::{Config, S3Config};
use crate::rclone::{CallError, check_permissions, impatient};
use crate::size_suffix::RatePair;
use crate::storage::local::LocalStore;
use crate::storage::s3::S3Store;
use crate::storage::{ObjectPath, ObjectStore, Place};
use crate::transfer::rate_limit::RateLimits;

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
    /// A step failed.
    #[error("{0}")]
    Call(String),
    /// No HTTP client for metadata services.
    #[error("set up the HTTP client for cloud metadata")]
    Client(#[source] reqwest::Error),
}

impl From<CallError> for CheckError {
    fn from(error: CallError) -> Self {
        Self::Call(error.message())
    }
}

/// Checks a location with the steps of `operations/check-permissions`. `say` is told what is done.
///
/// # Errors
/// The first step that failed.
pub async fn check_location(
    mut config: Config,
    location: &Location,
    say: impl Fn(&str),
) -> Result<(), CheckError> {
    if location.provider() == Provider::S3 {
        common::tls::install_provider();
        let client = reqwest::Client::builder().no_proxy().build().map_err(CheckError::Client)?;
        let cloud = Cloud::new(MetadataEndpoints::from_env(), Transport::Network(client));
        fill_region(&mut config, &cloud).await;
        say(&format!("region: {}", config.s3.effective_region()));
        let env = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        say(&format!("credentials: {}", credential_source(&config.s3, env)));
    }
    let store = open(&impatient(&config), location)?;
    let path = ObjectPath::parse(location.bucket()).map_err(CallError::from)?;
    check_permissions(&Place::new(store, path), |step| say(&format!("{step}: ok"))).await?;
    Ok(())
}

fn open(config: &Config, location: &Location) -> Result<Arc<dyn ObjectStore>, CheckError> {
    let limits = Arc::new(RateLimits::new(RatePair::default()));
    let missing = |hint| CheckError::Provider { provider: location.provider(), hint };
    match (location.provider(), &config.localstorage) {
        (Provider::S3, _) => {
            Ok(Arc::new(S3Store::new(&config.s3, &config.rclone, limits, Arc::new(|_, _, _| {}))))
        }
        (Provider::LocalStorage, Some(root)) => Ok(Arc::new(LocalStore::localstorage(root, limits))),
        (Provider::LocalStorage, None) => Err(missing("set localstorage.path in scylla-manager-agent.yaml")),
        (Provider::Gcs | Provider::Azure, _) => Err(missing("this build supports s3 and localstorage")),
    }
}

/// Where credentials will come from, by the order in which sources are asked. `env` says which variables are set.
fn credential_source(config: &S3Config, env: impl Fn(&str) -> bool) -> &'static str {
    match (config.access_key_id.is_empty(), config.secret_access_key.is_empty(), config.env_auth) {
        (false, false, _) => "static keys of the configuration",
        (_, _, false) => "none (anonymous)",
        _ if env("AWS_ACCESS_KEY_ID") && env("AWS_SECRET_ACCESS_KEY") => "environment variables",
        _ if config.profile.is_some() || config.shared_credentials_file.is_some() => {
            "profile named in the configuration"
        }
        _ if env("AWS_PROFILE") || env("AWS_SHARED_CREDENTIALS_FILE") => "profile named in the environment",
        _ if env("AWS_WEB_IDENTITY_TOKEN_FILE") => "web identity token",
        _ if env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") || env("AWS_CONTAINER_CREDENTIALS_FULL_URI") => {
            "container role"
        }
        _ => "shared credentials file, else the role of the machine",
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::config::Secret;

    #[test]
    fn sources_of_credentials_are_named_in_order() {
        let keys = S3Config {
            access_key_id: Secret::new("a"),
            secret_access_key: Secret::new("b"),
            ..S3Config::default()
        };
        let none = |_: &str| false;
        assert_eq!(credential_source(&keys, none), "static keys of the configuration");
        assert_eq!(
            credential_source(&S3Config::default(), |n| n.contains("ACCESS_KEY")),
            "environment variables"
        );
        assert_eq!(credential_source(&S3Config::default(), |n| n.contains("WEB_ID")), "web identity token");
        let anonymous = S3Config { env_auth: false, ..S3Config::default() };
        assert_eq!(credential_source(&anonymous, none), "none (anonymous)");
    }

    #[tokio::test]
    async fn each_step_is_told_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { localstorage: Some(dir.path().to_owned()), ..Config::default() };
        let location = "localstorage:backups".parse().unwrap();
        let said = RefCell::new(Vec::new());
        check_location(config, &location, |line| said.borrow_mut().push(line.to_owned())).await.unwrap();
        assert_eq!(said.into_inner(), ["put: ok", "list: ok", "open: ok", "read: ok", "remove: ok"]);
        assert_eq!(std::fs::read_dir(dir.path().join("backups")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn providers_that_are_not_there_say_what_to_do() {
        for (location, words) in [("localstorage:b", "localstorage.path"), ("gcs:b", "s3 and localstorage")] {
            let location = location.parse().unwrap();
            let error = check_location(Config::default(), &location, |_| {}).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
