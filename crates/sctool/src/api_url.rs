//! Finds the manager: flag, environment, configuration of a manager on this machine, default
//! (spec/sctool.md 1.2).

use std::net::Ipv6Addr;
use std::path::Path;

const DEFAULT: &str = "http://127.0.0.1:5080/api/v1";

/// The base URL, without a slash at its end.
pub fn resolve(flag: Option<&str>, env: Option<&str>, manager_config: &Path) -> String {
    let given = flag.into_iter().chain(env).find(|url| !url.is_empty()).map(str::to_owned);
    let url = given.or_else(|| from_config(&std::fs::read_to_string(manager_config).ok()?));
    url.unwrap_or_else(|| DEFAULT.to_owned()).trim_end_matches('/').to_owned()
}

/// The address in a manager's configuration; unknown keys and broken files are ignored, it is only a guess.
fn from_config(yaml: &str) -> Option<String> {
    let config: serde_yaml_ng::Value = serde_yaml_ng::from_str(yaml).ok()?;
    let address = |key: &str| config.get(key)?.as_str().map(str::to_owned).filter(|text| !text.is_empty());
    let (scheme, address) = match address("http") {
        Some(address) => ("http", address),
        None => ("https", address("https")?),
    };
    let (host, port) = split(&address)?;
    Some(format!("{scheme}://{}:{port}/api/v1", reachable(host)))
}

/// Splits `host:port`; an IPv6 host is in brackets.
fn split(address: &str) -> Option<(&str, &str)> {
    let (host, port) = address.rsplit_once(':')?;
    let plain = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!port.is_empty()).then_some((plain, port))
}

/// A server that listens on every address is reached on the loopback.
fn reachable(host: &str) -> String {
    match host {
        "" | "0.0.0.0" => "127.0.0.1".to_owned(),
        _ => match host.parse::<Ipv6Addr>() {
            Ok(Ipv6Addr::UNSPECIFIED) => "[::1]".to_owned(),
            Ok(other) => format!("[{other}]"),
            Err(_) => host.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_give_the_urls_of_the_table() {
        for (yaml, expected) in [
            ("http: 127.0.0.1:7000", Some("http://127.0.0.1:7000/api/v1")),
            ("https: 127.0.0.1:7443", Some("https://127.0.0.1:7443/api/v1")),
            ("http: 0.0.0.0:7000\nhttps: 127.0.0.1:7443", Some("http://127.0.0.1:7000/api/v1")),
            ("http: ':7000'\nunknown: {a: 1}", Some("http://127.0.0.1:7000/api/v1")),
            ("https: '[::0]:7443'", Some("https://[::1]:7443/api/v1")),
            ("https: '[::]:7443'", Some("https://[::1]:7443/api/v1")),
            ("http: 'manager.local:5080'", Some("http://manager.local:5080/api/v1")),
            ("http: '5080'", None),
            ("http: ''", None),
            ("{broken", None),
        ] {
            assert_eq!(from_config(yaml).as_deref(), expected, "{yaml}");
        }
    }

    #[test]
    fn flag_then_environment_then_default() {
        let none = Path::new("/no/such/file");
        assert_eq!(resolve(Some("http://a/api/v1/"), Some("http://b"), none), "http://a/api/v1");
        assert_eq!(resolve(None, Some("http://b"), none), "http://b");
        assert_eq!(resolve(Some(""), Some(""), none), DEFAULT);
    }
}
