//! Typed identifiers, so that a task ID cannot be passed where a cluster ID is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not a UUID where one is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid UUID {input:?}")]
pub struct InvalidUuid {
    /// The refused text.
    pub input: String,
}

/// Parses 32 hexadecimal digits with or without hyphens, as the original does; nothing else
/// (no braces, no `urn:uuid:`).
fn parse_uuid(input: &str) -> Result<Uuid, InvalidUuid> {
    let plain = matches!(input.len(), 32 | 36) && input.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let parsed = if plain { Uuid::try_parse(input).ok() } else { None };
    parsed.ok_or_else(|| InvalidUuid { input: input.to_owned() })
}

macro_rules! uuid_newtype {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// `00000000-0000-0000-0000-000000000000`: "not set" on the wire.
            pub const NIL: Self = Self(Uuid::nil());

            /// That UUID, also in constants.
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// A new random ID.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// Whether this is the nil ID.
            pub fn is_nil(self) -> bool {
                self.0.is_nil()
            }

            /// The UUID itself.
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidUuid;

            fn from_str(input: &str) -> Result<Self, Self::Err> {
                parse_uuid(input).map(Self)
            }
        }
    };
}

uuid_newtype! {
    /// A managed cluster.
    ClusterId
}
uuid_newtype! {
    /// A scheduled task.
    TaskId
}
uuid_newtype! {
    /// One execution of a task. Time based (v1), so that the embedded time gives the order of runs.
    RunId
}

impl RunId {
    /// A time-based ID for a run that starts at `now`.
    ///
    /// Two calls with the same `now` differ by the counter in the clock sequence, never by time.
    pub fn at(now: chrono::DateTime<chrono::Utc>) -> Self {
        use std::sync::atomic::{AtomicU16, Ordering};
        static SEQUENCE: AtomicU16 = AtomicU16::new(0);
        let count = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        let time =
            uuid::Timestamp::from_unix_time(seconds, now.timestamp_subsec_nanos(), u128::from(count), 14);
        Self(Uuid::new_v1(time, &node_bytes()))
    }

    /// The embedded time; `None` for an ID that is not time based (v1).
    pub fn time(self) -> Option<chrono::DateTime<chrono::Utc>> {
        if self.0.get_version_num() != 1 {
            return None;
        }
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        chrono::DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
    }

    /// The embedded time as 100 ns ticks since 1582-10-15: sorts runs by their start.
    pub fn ticks(self) -> u64 {
        self.0.get_timestamp().map_or(0, |t| t.to_gregorian().0)
    }
}

/// Stands in for a MAC address: random per process, with the multicast bit set as RFC 9562 asks.
fn node_bytes() -> [u8; 6] {
    static NODE: std::sync::OnceLock<[u8; 6]> = std::sync::OnceLock::new();
    *NODE.get_or_init(|| {
        let random = Uuid::new_v4();
        let mut node = [0; 6];
        node.copy_from_slice(&random.as_bytes()[..6]);
        node[0] |= 1;
        node
    })
}

/// A Scylla host ID. Opaque: UUID text in practice, but the bucket layout allows any text without `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(String);

impl HostId {
    /// Takes the text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_parse_with_and_without_hyphens_only() {
        let hyphens: TaskId = "a41c7d90-3b52-4e8f-8c60-1d2e3f405162".parse().unwrap();
        let plain: TaskId = "a41c7d903b524e8f8c601d2e3f405162".parse().unwrap();
        assert_eq!(hyphens, plain);
        for bad in ["", "foo", "{a41c7d90-3b52-4e8f-8c60-1d2e3f405162}", "a41c7d903b524e8f8c601d2e3f40516"] {
            assert!(bad.parse::<TaskId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn run_ids_order_by_time() {
        let early = RunId::at(chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        let late = RunId::at(chrono::DateTime::from_timestamp(1_700_000_001, 0).unwrap());
        assert!(early.ticks() < late.ticks());
        assert_eq!(early.uuid().get_version_num(), 1);
        assert_eq!(early.time().map(|t| t.timestamp()), Some(1_700_000_000));
        assert_eq!(RunId::NIL.time().or(RunId::from(Uuid::new_v4()).time()), None);
        let twin = RunId::at(chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        assert_ne!(early, twin);
    }
}
