//! What the program takes from its surroundings, gathered once so that tests can replace all of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use common::http_client::Transport;
use indicatif::ProgressDrawTarget;

/// The surroundings of one invocation.
pub struct Env {
    /// Environment variables.
    pub vars: BTreeMap<String, String>,
    /// The clock.
    pub now: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    /// Zone of printed times and the default of `--timezone`.
    pub zone: LocalZone,
    /// What stdout is connected to.
    pub terminal: Terminal,
    /// How requests travel; `None` for the network, set up by the flags.
    pub transport: Option<Transport>,
    /// Configuration of a manager on this machine, for its address.
    pub manager_config: PathBuf,
    /// Where `--watch` draws; the terminal unless a test looks on.
    pub draw: Arc<dyn Fn() -> ProgressDrawTarget + Send + Sync>,
}

/// What is known about the terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal {
    /// stdout is a terminal.
    pub is_terminal: bool,
    /// Its width in columns, if known.
    pub width: Option<usize>,
}

/// The local time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalZone {
    /// Its rules.
    pub tz: Tz,
    /// Its IANA name, as sent to the manager.
    pub name: String,
}

impl Env {
    /// The real surroundings of the process.
    pub fn of_process() -> Self {
        // Variables that are not UTF-8 are none of ours.
        let vars: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let link = std::fs::read_link("/etc/localtime").ok();
        let zone = LocalZone::find(vars.get("TZ").map(String::as_str), link.as_deref());
        Self {
            terminal: Terminal::of_stdout(),
            zone,
            vars,
            now: Arc::new(Utc::now),
            transport: None,
            manager_config: PathBuf::from("/etc/scylla-manager/scylla-manager.yaml"),
            draw: Arc::new(ProgressDrawTarget::stdout),
        }
    }

    /// A variable that is set and not empty.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether tables have UTF-8 borders (spec/sctool.md 4.1.5).
    pub fn utf8_tables(&self) -> bool {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| self.var(name));
        let utf8 =
            locale.map(str::to_lowercase).is_some_and(|text| text.contains("utf-8") || text.contains("utf8"));
        utf8 && self.var("SCTOOL_ASCII_TABLES").is_none()
    }

    /// Width that a truncated column must fit in; `None` for no truncation, as in a pipe.
    pub fn table_width(&self) -> Option<usize> {
        if !self.terminal.is_terminal {
            return None;
        }
        let number = |name| self.var(name).and_then(|text| text.parse::<usize>().ok()).filter(|n| *n > 0);
        match (number("LINES"), number("COLUMNS")) {
            (Some(_), Some(columns)) => Some(columns),
            _ => self.terminal.width,
        }
    }

    /// Whether HTTP traffic is shown on stderr.
    pub fn dumps_http(&self) -> bool {
        let text = self.var("SCTOOL_DUMP_HTTP").unwrap_or_default();
        text.parse::<crate::values::Switch>().is_ok_and(|switch| switch.0)
    }
}

impl Terminal {
    fn of_stdout() -> Self {
        use std::io::IsTerminal as _;

        let stdout = std::io::stdout();
        let width = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        Self { is_terminal: stdout.is_terminal(), width: width.filter(|columns| *columns > 0) }
    }
}

impl LocalZone {
    /// `TZ` if it names a zone, else the target of `/etc/localtime`, else UTC.
    pub fn find(tz: Option<&str>, localtime: Option<&Path>) -> Self {
        let utc = || Self { tz: Tz::UTC, name: "UTC".to_owned() };
        if let Some(text) = tz {
            let name = zone_name(text.trim_start_matches(':'));
            return Self::named(name).unwrap_or_else(utc);
        }
        let target = localtime.and_then(Path::to_str).unwrap_or_default();
        Self::named(zone_name(target)).unwrap_or_else(utc)
    }

    fn named(name: &str) -> Option<Self> {
        let tz: Tz = name.parse().ok()?;
        Some(Self { tz, name: name.to_owned() })
    }
}

/// The part of a zone file's path that is the zone's name.
fn zone_name(path: &str) -> &str {
    path.rsplit_once("zoneinfo/").map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_is_tz_or_the_link() {
        for (tz, link, expected) in [
            (Some("Europe/Oslo"), None, "Europe/Oslo"),
            (Some(":Europe/Oslo"), None, "Europe/Oslo"),
            (Some("/usr/share/zoneinfo/Europe/Oslo"), None, "Europe/Oslo"),
            (Some(""), Some("/usr/share/zoneinfo/Europe/Oslo"), "UTC"),
            (Some("nonsense"), None, "UTC"),
            (None, Some("/usr/share/zoneinfo/Etc/UTC"), "Etc/UTC"),
            (None, Some("../usr/share/zoneinfo/America/New_York"), "America/New_York"),
            (None, None, "UTC"),
        ] {
            assert_eq!(LocalZone::find(tz, link.map(Path::new)).name, expected, "{tz:?} {link:?}");
        }
    }
}
