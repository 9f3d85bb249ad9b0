//! The region that requests are signed for, where neither it nor an endpoint is configured (spec agent.md 1.3).
//!
//! Environment and profile come first, as with every program that uses AWS: in a container there may be no metadata of
//! a machine to ask. A bucket in another region than this one is found at the first request to it.

use std::fmt;

use aws_config::meta::region::ProvideRegion as _;
use aws_config::profile::ProfileFileRegionProvider;

use crate::cloud::Cloud;
use crate::config::S3Config;

/// Variables that name a region; the first one that is set counts.
const VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// Where a region comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionSource {
    /// `s3.region`.
    Configuration,
    /// A variable.
    Environment(&'static str),
    /// The shared configuration file.
    Profile,
    /// The machine's metadata.
    Machine,
    /// Nothing says it.
    Default,
}

impl fmt::Display for RegionSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("configuration"),
            Self::Environment(name) => f.write_str(name),
            Self::Profile => f.write_str("shared configuration file"),
            Self::Machine => f.write_str("metadata of the machine"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Reads an environment variable; one that is empty is not there.
pub type Env = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The environment of this process.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Fills in `s3.region` and says where it came from. `env` reads a variable.
pub async fn fill(config: &mut S3Config, cloud: &Cloud, env: &Env) -> RegionSource {
    if config.region.is_some() {
        return RegionSource::Configuration;
    }
    // Other stores have regions of their own, mostly none.
    if config.endpoint.is_some() {
        return RegionSource::Default;
    }
    let variable = VARIABLES.into_iter().find_map(|name| Some((name, env(name)?)));
    if let Some((name, region)) = variable {
        config.region = Some(region);
        return RegionSource::Environment(name);
    }
    config.region = profile_region(config, env).await;
    if config.region.is_some() {
        return RegionSource::Profile;
    }
    config.region = cloud.aws_region().await;
    if config.region.is_some() { RegionSource::Machine } else { RegionSource::Default }
}

async fn profile_region(config: &S3Config, env: &Env) -> Option<String> {
    // Without a home there are no files to look into.
    env("AWS_CONFIG_FILE").or_else(|| env("HOME"))?;
    let mut builder = ProfileFileRegionProvider::builder();
    if let Some(profile) = &config.profile {
        builder = builder.profile_name(profile);
    }
    let region = builder.build().region().await;
    region.map(|region| region.as_ref().to_owned()).filter(|region| !region.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use common::http_client::Transport;

    use super::*;
    use crate::cloud::MetadataEndpoints;

    #[tokio::test]
    async fn what_is_configured_counts_then_the_environment() {
        let cloud = Cloud::new(MetadataEndpoints::default(), Transport::InProcess(Arc::new(|_| None)));
        let configured = S3Config { region: Some("eu-west-1".into()), ..S3Config::default() };
        let other = S3Config { endpoint: Some("http://minio:9000".into()), ..S3Config::default() };
        let both = [("AWS_REGION", "eu-north-1"), ("AWS_DEFAULT_REGION", "us-west-2")];
        for (config, vars, region, source) in [
            (configured, &both[..], Some("eu-west-1"), RegionSource::Configuration),
            (other, &both, None, RegionSource::Default),
            (S3Config::default(), &both, Some("eu-north-1"), RegionSource::Environment("AWS_REGION")),
            (
                S3Config::default(),
                &both[1..],
                Some("us-west-2"),
                RegionSource::Environment("AWS_DEFAULT_REGION"),
            ),
            (S3Config::default(), &[], None, RegionSource::Default),
        ] {
            let mut config = config;
            let vars = vars.to_vec();
            let env = move |name: &str| vars.iter().find(|v| v.0 == name).map(|v| v.1.to_owned());
            assert_eq!(fill(&mut config, &cloud, &env).await, source);
            assert_eq!(config.region.as_deref(), region, "{source}");
        }
    }
}
