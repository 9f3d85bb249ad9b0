//! Where backups go: `[<dc>:]<provider>:<bucket>`.

use std::fmt;
use std::str::FromStr;

use serde_with::{DeserializeFromStr, SerializeDisplay};

/// A storage provider that the agents know by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub enum Provider {
    /// Amazon S3 and everything that speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
    /// A directory below the agent's `localstorage.path`.
    LocalStorage,
}

impl Provider {
    /// The name in locations and in the agent's remote paths.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
            Self::LocalStorage => "localstorage",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Provider {
    type Err = String;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        [Self::S3, Self::Gcs, Self::Azure, Self::LocalStorage]
            .into_iter()
            .find(|p| p.as_str() == input)
            .ok_or_else(|| format!("unrecognised provider {input:?}"))
    }
}

/// A bucket on a provider, optionally for the nodes of one datacenter only.
///
/// Two locations that differ only in `dc` address the same storage: compare with [`Location::bucket_key`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct Location {
    dc: Option<String>,
    provider: Provider,
    bucket: String,
}

/// A text that is not a location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLocation {
    /// The shape is wrong.
    #[error(
        "invalid location {input:?}, the format is [dc:]<provider>:<path> ex. s3:my-bucket, the path must be DNS compliant"
    )]
    Format {
        /// The refused text.
        input: String,
    },
    /// The shape is right, but nobody knows the provider.
    #[error("invalid location {input:?}: unrecognised provider {provider:?}")]
    Provider {
        /// The refused text.
        input: String,
        /// The part that should have named a provider.
        provider: String,
    },
}

impl Location {
    /// A location without a datacenter.
    ///
    /// # Errors
    /// The bucket name is not DNS compliant.
    pub fn new(provider: Provider, bucket: &str) -> Result<Self, InvalidLocation> {
        format!("{provider}:{bucket}").parse()
    }

    /// The datacenter that this location is for; all when absent.
    pub fn dc(&self) -> Option<&str> {
        self.dc.as_deref()
    }

    /// The provider.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Bucket, container or directory name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The same storage without the datacenter.
    pub fn without_dc(&self) -> Self {
        Self { dc: None, ..self.clone() }
    }

    /// `<provider>:<bucket>`: identifies the storage, and is the agent's `fs` parameter.
    pub fn bucket_key(&self) -> String {
        format!("{}:{}", self.provider, self.bucket)
    }

    /// `<provider>:<bucket>/<key>`: the agent's name for an object.
    pub fn remote_path(&self, key: &str) -> String {
        format!("{}:{}/{}", self.provider, self.bucket, key.trim_start_matches('/'))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(dc) = &self.dc {
            write!(f, "{dc}:")?;
        }
        write!(f, "{}:{}", self.provider, self.bucket)
    }
}

impl FromStr for Location {
    type Err = InvalidLocation;

    /// Also reads the 2.x synonym `<provider>:<dc>:<bucket>`; everything is printed in the other order.
    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidLocation::Format { input: input.to_owned() };
        let parts: Vec<&str> = input.split(':').collect();
        let (dc, provider, bucket) = match parts[..] {
            [provider, bucket] => (None, provider, bucket),
            [first, second, bucket]
                if second.parse::<Provider>().is_err() && first.parse::<Provider>().is_ok() =>
            {
                (Some(second), first, bucket)
            }
            [dc, provider, bucket] => (Some(dc), provider, bucket),
            _ => return Err(invalid()),
        };
        let all = |s: &str, more: &str, upper: bool| {
            !s.is_empty()
                && s.chars().all(|c| {
                    c.is_ascii_digit()
                        || c.is_ascii_lowercase()
                        || (upper && c.is_ascii_uppercase())
                        || more.contains(c)
                })
        };
        if !dc.is_none_or(|dc| all(dc, "-_.", true)) || !all(provider, "", false) || !all(bucket, "-.", false)
        {
            return Err(invalid());
        }
        // For the local provider the bucket is a path component.
        if matches!(bucket, "." | "..") {
            return Err(invalid());
        }
        let provider = provider.parse().map_err(|_| InvalidLocation::Provider {
            input: input.to_owned(),
            provider: provider.to_owned(),
        })?;
        Ok(Self { dc: dc.map(str::to_owned), provider, bucket: bucket.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_texts_are_printed_canonically() {
        for (input, printed) in [
            ("s3:my-backups", "s3:my-backups"),
            ("dc1:s3:a.b-c", "dc1:s3:a.b-c"),
            ("eu-dc:s3:eu-backups", "eu-dc:s3:eu-backups"),
            ("s3:eu-dc:eu-backups", "eu-dc:s3:eu-backups"),
            ("s3:s3:b", "s3:s3:b"),
            ("DC_1.x:localstorage:b", "DC_1.x:localstorage:b"),
        ] {
            let location: Location = input.parse().unwrap();
            assert_eq!(location.to_string(), printed, "{input}");
            assert_eq!(printed.parse::<Location>().unwrap(), location);
        }
    }

    #[test]
    fn refused_texts_say_why() {
        for (input, message) in [
            ("my-backups", "the format is [dc:]<provider>:<path>"),
            ("s3:", "the format is"),
            ("s3:My", "the format is"),
            ("s3:a/b", "the format is"),
            ("s3:a_b", "the format is"),
            ("a:b:c:d", "the format is"),
            ("localstorage:..", "the format is"),
            ("foo:bar", "unrecognised provider \"foo\""),
            ("dc:foo:bar", "unrecognised provider \"foo\""),
        ] {
            let error = input.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains(message), "{input}: {error}");
        }
    }
}
