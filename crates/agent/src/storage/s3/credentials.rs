//! Where credentials come from: one source after the other, remembered until shortly before they expire.
//!
//! The SDK has such a chain too, but does not say which source it found, and an operator who debugs access wants to
//! know exactly that. The sources themselves are the SDK's, but for the environment, where older names count as well.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_config::{ecs, imds, profile};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::config::Region;
use aws_sdk_sts::error::SdkError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::credentials_http::CredentialsHttp;
use crate::config::S3Config;

/// Temporary credentials are renewed so long before they expire (spec agent.md 1.3).
const RENEW_BEFORE: Duration = Duration::from_secs(180);
/// Pause after a renewal that failed, while the old credentials are still good.
const RENEW_PAUSE: Duration = Duration::from_secs(10);
/// Limit for all sources together: each has limits of its own, some of them per attempt.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Where credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// Keys in the YAML file.
    Configuration,
    /// `AWS_ACCESS_KEY_ID` and its kin.
    Environment,
    /// Shared files, as a rule `~/.aws/credentials` and `~/.aws/config`.
    Profile(Option<String>),
    /// A token in a file, exchanged at STS for the credentials of this role (EKS).
    WebIdentity(String),
    /// The endpoint that a container's environment names (ECS, EKS).
    Container,
    /// The role of the machine, from its metadata.
    Machine,
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("keys in the configuration (s3.access_key_id)"),
            Self::Environment => f.write_str("environment variables"),
            Self::Profile(None) => f.write_str("default profile of the shared credentials files"),
            Self::Profile(Some(name)) => write!(f, "profile {name:?} of the shared credentials files"),
            Self::WebIdentity(role) if role.is_empty() => f.write_str("web identity"),
            Self::WebIdentity(role) => write!(f, "web identity, role {role}"),
            Self::Container => f.write_str("role of the container"),
            Self::Machine => f.write_str("role of the machine (instance metadata)"),
        }
    }
}

/// Credentials, and where they came from.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub source: CredentialSource,
    pub credentials: Credentials,
}

/// A source that is there, but fails.
#[derive(Debug, thiserror::Error)]
#[error("{from}")]
struct SourceFailed {
    from: CredentialSource,
    #[source]
    source: CredentialsError,
}

#[derive(Debug, Default)]
struct Known {
    found: Option<Found>,
    /// No renewal before, unless there is nothing else to do.
    pause: Option<Instant>,
}

/// The sources in the order in which they are asked. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Chain(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sources: Vec<(CredentialSource, SharedCredentialsProvider)>,
    known: Mutex<Known>,
}

impl Chain {
    fn new(sources: Vec<(CredentialSource, SharedCredentialsProvider)>) -> Self {
        Self(Arc::new(Inner { sources, known: Mutex::default() }))
    }

    /// Credentials that are valid for a while yet. While a renewal fails the old ones serve until their end.
    pub(super) async fn find(&self) -> Result<Found, CredentialsError> {
        let now = SystemTime::now();
        let mut known = self.0.known.lock().await;
        let valid = known.found.clone().filter(|f| expires(f).is_none_or(|at| at > now));
        if let Some(found) = &valid {
            let fresh = expires(found).is_none_or(|at| at > now + RENEW_BEFORE);
            if fresh || known.pause.is_some_and(|until| until > Instant::now()) {
                return Ok(found.clone());
            }
        }
        match (self.load().await, valid) {
            (Ok(found), _) => {
                *known = Known { found: Some(found.clone()), pause: None };
                Ok(found)
            }
            (Err(error), Some(found)) => {
                let error = common::error::chain(&error);
                tracing::warn!(
                    error,
                    "Credentials cannot be renewed; the old ones are valid for a while yet"
                );
                known.pause = Some(Instant::now() + RENEW_PAUSE);
                Ok(found)
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn load(&self) -> Result<Found, CredentialsError> {
        match tokio::time::timeout(LOAD_TIMEOUT, self.ask()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CredentialsError::provider_timed_out(LOAD_TIMEOUT)),
        }
    }

    /// Asks one source after the other; one that is there and fails ends the search.
    async fn ask(&self) -> Result<Found, CredentialsError> {
        let mut reasons = Vec::new();
        for (source, provider) in &self.0.sources {
            match provider.provide_credentials().await {
                Ok(credentials) => return Ok(Found { source: source.clone(), credentials }),
                Err(error @ CredentialsError::CredentialsNotLoaded(_)) => {
                    reasons.push(format!("{source}: {}", common::error::chain(&error)));
                }
                Err(error) => return Err(failed(source, error)),
            }
        }
        Err(CredentialsError::not_loaded(reasons.join("; ")))
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.find().await.map(|found| found.credentials) })
    }
}

fn expires(found: &Found) -> Option<SystemTime> {
    found.credentials.expiry()
}

/// Names the source, and tells a refusal, which will stay one, from trouble of the moment.
fn failed(from: &CredentialSource, source: CredentialsError) -> CredentialsError {
    let settled = matches!(source, CredentialsError::InvalidConfiguration(_)) || is_refused(&source);
    let named = SourceFailed { from: from.clone(), source };
    if settled {
        CredentialsError::invalid_configuration(named)
    } else {
        CredentialsError::provider_error(named)
    }
}

/// STS has said no: wrong role, wrong or expired token.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(SdkError::ServiceError(answer)) =
            error.downcast_ref::<SdkError<AssumeRoleWithWebIdentityError>>()
        {
            let status = answer.raw().status().as_u16();
            return (400..500).contains(&status) && status != 429;
        }
        cause = error.source();
    }
    false
}

/// The sources of a configuration; `None` for anonymous requests.
///
/// # Errors
/// Half a key pair, and nowhere else to look.
pub(super) fn chain(config: &S3Config, http: CredentialsHttp) -> Result<Option<Chain>, String> {
    let (id, secret) = (&config.access_key_id, &config.secret_access_key);
    if !id.is_empty() && !secret.is_empty() {
        let token = (!config.session_token.is_empty()).then(|| config.session_token.expose().to_owned());
        let fixed = Credentials::new(id.expose(), secret.expose(), token, None, "scylla-manager-agent.yaml");
        let fixed = SharedCredentialsProvider::new(fixed);
        return Ok(Some(Chain::new(vec![(CredentialSource::Configuration, fixed)])));
    }
    if !config.env_auth {
        if id.is_empty() && secret.is_empty() {
            return Ok(None);
        }
        let missing = if id.is_empty() { "access_key_id" } else { "secret_access_key" };
        return Err(format!("s3.{missing} is not set"));
    }
    Ok(Some(Chain::new(surroundings(config, http))))
}

/// What the environment, files and the machine offer.
fn surroundings(
    config: &S3Config,
    http: CredentialsHttp,
) -> Vec<(CredentialSource, SharedCredentialsProvider)> {
    let region = Region::new(config.effective_region().to_owned());
    let provider = ProviderConfig::without_region().with_region(Some(region)).with_http_client(http);
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(&provider).build();
    let role = env("AWS_ROLE_ARN").unwrap_or_default();
    let container = ecs::EcsCredentialsProvider::builder().configure(&provider).build();
    let machine = imds::credentials::ImdsCredentialsProvider::builder().configure(&provider).build();
    vec![
        (CredentialSource::Environment, SharedCredentialsProvider::new(Environment::read(env))),
        (
            CredentialSource::Profile(config.profile.clone().or_else(|| env("AWS_PROFILE"))),
            SharedCredentialsProvider::new(profile_provider(config, &provider)),
        ),
        (CredentialSource::WebIdentity(role), SharedCredentialsProvider::new(web_identity)),
        (CredentialSource::Container, SharedCredentialsProvider::new(container)),
        (CredentialSource::Machine, SharedCredentialsProvider::new(machine)),
    ]
}

fn profile_provider(config: &S3Config, provider: &ProviderConfig) -> profile::ProfileFileCredentialsProvider {
    let mut builder = profile::ProfileFileCredentialsProvider::builder().configure(provider);
    if let Some(name) = &config.profile {
        builder = builder.profile_name(name);
    }
    if let Some(file) = &config.shared_credentials_file {
        let files = EnvConfigFiles::builder()
            .with_file(EnvConfigFileKind::Credentials, file)
            .include_default_config_file(true)
            .build();
        builder = builder.profile_files(files);
    }
    builder.build()
}

/// Keys in the environment; the older of two names counts where the newer one is missing.
#[derive(Debug)]
struct Environment(Option<Credentials>);

impl Environment {
    fn read(env: impl Fn(&str) -> Option<String>) -> Self {
        let either = |names: [&str; 2]| names.into_iter().find_map(&env);
        let id = either(["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"]);
        let secret = either(["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"]);
        let pair = id.zip(secret);
        Self(
            pair.map(|(id, secret)| {
                Credentials::new(id, secret, env("AWS_SESSION_TOKEN"), None, "environment")
            }),
        )
    }
}

impl ProvideCredentials for Environment {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let missing =
            || CredentialsError::not_loaded("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set");
        let found: provider::Result = self.0.clone().ok_or_else(missing);
        future::ProvideCredentials::ready(found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use hyper_util::client::proxy::matcher::Matcher;

    use super::super::http::{StorageHttp, tls_config};
    use super::*;
    use crate::config::{EngineConfig, Secret};

    /// Answers one after the other; the last one for ever.
    #[derive(Debug)]
    struct Script(std::sync::Mutex<VecDeque<Answer>>);

    #[derive(Clone, Debug)]
    enum Answer {
        Keys(&'static str, Option<Duration>),
        Nothing,
        Broken,
    }

    impl ProvideCredentials for Script {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let mut answers = self.0.lock().unwrap();
            let answer = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
            future::ProvideCredentials::ready(match answer {
                Answer::Keys(id, left) => {
                    let end = left.map(|left| SystemTime::now() + left);
                    Ok(Credentials::new(id, "secret", None, end, "script"))
                }
                Answer::Nothing => Err(CredentialsError::not_loaded("nothing here")),
                Answer::Broken => Err(CredentialsError::provider_error("connection reset")),
            })
        }
    }

    fn chain_of(sources: &[(CredentialSource, &[Answer])]) -> Chain {
        let source = |(source, answers): &(CredentialSource, &[Answer])| {
            let script = Script(std::sync::Mutex::new(answers.iter().cloned().collect()));
            (source.clone(), SharedCredentialsProvider::new(script))
        };
        Chain::new(sources.iter().map(source).collect())
    }

    use Answer::{Broken, Keys, Nothing};
    use CredentialSource::{Container, Environment as FromEnvironment, Machine};

    #[tokio::test]
    async fn the_first_source_that_has_any_counts_and_is_known() {
        let chain = chain_of(&[
            (FromEnvironment, &[Nothing]),
            (Container, &[Keys("container", None)]),
            (Machine, &[Keys("machine", None)]),
        ]);
        let found = chain.find().await.unwrap();
        assert_eq!((found.source, found.credentials.access_key_id()), (Container, "container"));
    }

    #[tokio::test]
    async fn no_source_and_a_broken_source_are_told_apart() {
        let none =
            chain_of(&[(FromEnvironment, &[Nothing]), (Machine, &[Nothing])]).find().await.unwrap_err();
        assert!(matches!(none, CredentialsError::CredentialsNotLoaded(_)));
        let text = common::error::chain(&none);
        assert!(text.contains("environment variables: ") && text.contains("role of the machine"), "{text}");
        let broken = chain_of(&[(Container, &[Broken]), (Machine, &[Keys("machine", None)])]);
        let error = broken.find().await.unwrap_err();
        assert!(matches!(error, CredentialsError::ProviderError(_)), "{error:?}");
        let text = common::error::chain(&error);
        assert!(text.contains("role of the container") && text.contains("connection reset"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn temporary_credentials_are_renewed_three_minutes_before_their_end() {
        let minute = Duration::from_secs(60);
        let id = async |chain: &Chain| chain.find().await.unwrap().credentials.access_key_id().to_owned();
        let chain = chain_of(&[(Machine, &[Keys("long", Some(minute * 10)), Keys("other", None)])]);
        assert_eq!((id(&chain).await, id(&chain).await), ("long".into(), "long".into()));
        let chain = chain_of(&[(Machine, &[Keys("short", Some(minute * 2)), Broken, Keys("next", None)])]);
        assert_eq!(id(&chain).await, "short");
        // The renewal fails: the old ones are good for two minutes, and nobody is asked for a while.
        assert_eq!((id(&chain).await, id(&chain).await), ("short".into(), "short".into()));
        tokio::time::advance(RENEW_PAUSE).await;
        assert_eq!(id(&chain).await, "next");
    }

    #[test]
    fn older_names_in_the_environment_count_too() {
        let read = |vars: &[(&str, &str)]| {
            Environment::read(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())).0
        };
        let both = [("AWS_ACCESS_KEY_ID", "new"), ("AWS_ACCESS_KEY", "old"), ("AWS_SECRET_KEY", "s")];
        assert_eq!(read(&both).unwrap().access_key_id(), "new");
        let old =
            read(&[("AWS_ACCESS_KEY", "old"), ("AWS_SECRET_KEY", "s"), ("AWS_SESSION_TOKEN", "t")]).unwrap();
        assert_eq!((old.access_key_id(), old.session_token()), ("old", Some("t")));
        assert!(read(&[("AWS_ACCESS_KEY_ID", "new")]).is_none());
    }

    #[tokio::test]
    async fn the_configuration_decides_where_to_look() {
        let config = |id: &str, secret: &str, env_auth| S3Config {
            access_key_id: Secret::new(id),
            secret_access_key: Secret::new(secret),
            env_auth,
            ..S3Config::default()
        };
        let tls = Arc::new(tls_config(false, &[]).unwrap());
        let plain = || {
            StorageHttp::new(
                &EngineConfig::default(),
                tls.clone(),
                Arc::new(|_, _, _| {}),
                Matcher::builder().build(),
            )
        };
        let http = || CredentialsHttp::new(plain(), plain());
        let sources = |config: &S3Config| chain(config, http()).map(|chain| chain.map(|c| c.0.sources.len()));
        assert_eq!(sources(&config("id", "secret", true)), Ok(Some(1)));
        assert_eq!(sources(&config("", "", false)), Ok(None));
        assert_eq!(sources(&config("id", "", true)), Ok(Some(5)));
        assert_eq!(sources(&config("id", "", false)), Err("s3.secret_access_key is not set".into()));
        assert_eq!(sources(&config("", "secret", false)), Err("s3.access_key_id is not set".into()));
    }
}
