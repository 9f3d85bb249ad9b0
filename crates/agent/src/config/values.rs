//! Types for single values of the configuration.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Where a server listens: `host:port`, `[v6]:port`, or `:port` for all interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// Host name or address without brackets; empty means all interfaces.
    pub host: String,
    /// TCP port; 0 lets the system choose.
    pub port: u16,
}

/// A text that is not an address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not an address to listen on; expected host:port, [IPv6]:port or :port")]
pub struct InvalidListenAddress {
    input: String,
}

impl ListenAddress {
    /// An address from its parts.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidListenAddress { input: input.to_owned() };
        let (host, port) = input.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        // Without brackets nobody can tell where an IPv6 address ends.
        if bare.is_none() && host.contains(':') {
            return Err(invalid());
        }
        Ok(Self { host: bare.unwrap_or(host).to_owned(), port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        for (input, host, port) in [
            (":5090", "", 5090),
            ("127.0.0.1:5112", "127.0.0.1", 5112),
            ("[::1]:1", "::1", 1),
            ("node.example:10001", "node.example", 10001),
        ] {
            let address: ListenAddress = input.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port), "{input}");
            assert_eq!(address.to_string(), input);
        }
        for bad in ["", "5090", "::1:5090", "host:", "host:99999", "host:http"] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
        }
    }
}
