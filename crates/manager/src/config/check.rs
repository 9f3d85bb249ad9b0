//! What the parser cannot see: values that do not fit together.

use std::path::{Path, PathBuf};

use super::Config;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read or parsed.
    #[error(transparent)]
    File(#[from] common::config::ConfigError),
    /// A value is wrong.
    #[error("configuration key {key}: {reason}")]
    Value {
        /// The key, dotted.
        key: &'static str,
        /// What is wrong and what is wanted.
        reason: String,
    },
    /// There is no address for the REST API.
    #[error(
        "no address for the REST API: set http or https, e.g. `http: 127.0.0.1:5080` (read: {})",
        describe(files)
    )]
    NoListener {
        /// The files that were read.
        files: Vec<PathBuf>,
    },
}

fn describe(files: &[PathBuf]) -> String {
    let name = |f: &PathBuf| {
        if f.exists() { f.display().to_string() } else { format!("{}, which does not exist", f.display()) }
    };
    files.iter().map(name).collect::<Vec<_>>().join(", ")
}

impl Config {
    /// Checks the values. `files` is for the message only.
    pub(super) fn check(&self, files: &[PathBuf]) -> Result<(), ConfigError> {
        if self.http.is_empty() && self.https.is_empty() {
            return Err(ConfigError::NoListener { files: files.to_vec() });
        }
        self.check_tls()?;
        let percent = "a disk share in percent must be 0 to 99";
        refuse(self.backup.disk_space_free_min_percent > 99, "backup.disk_space_free_min_percent", percent)?;
        refuse(
            self.restore.disk_space_free_min_percent > 99,
            "restore.disk_space_free_min_percent",
            percent,
        )?;
        let positive = "must be longer than 0";
        refuse(self.repair.poll_interval.is_zero(), "repair.poll_interval", positive)?;
        refuse(self.repair.graceful_stop_timeout.is_zero(), "repair.graceful_stop_timeout", positive)?;
        refuse(self.healthcheck.max_timeout.is_zero(), "healthcheck.max_timeout", positive)?;
        refuse(self.config_cache.update_frequency.is_zero(), "config_cache.update_frequency", positive)?;
        refuse(self.agent_client.timeout.is_zero(), "agent_client.timeout", positive)?;
        refuse(self.agent_client.list_timeout.is_zero(), "agent_client.list_timeout", positive)?;
        refuse(
            self.agent_client.max_timeout < self.agent_client.timeout,
            "agent_client.max_timeout",
            "must not be shorter than agent_client.timeout",
        )?;
        refuse(self.database.path.as_os_str().is_empty(), "database.path", "must name a file")
    }

    fn check_tls(&self) -> Result<(), ConfigError> {
        let reason = match self.tls_version.as_str() {
            "TLSv1.2" | "TLSv1.3" => None,
            "TLSv1.0" => Some("TLSv1.0 is not offered; use TLSv1.2 or TLSv1.3".to_owned()),
            other => Some(format!("{other:?} is not known; use TLSv1.2 or TLSv1.3")),
        };
        if let Some(reason) = reason {
            return Err(ConfigError::Value { key: "tls_version", reason });
        }
        let missing = |set: &str, other: &str| set.is_empty() && !other.is_empty();
        refuse(
            missing(&self.tls_cert_file, &self.tls_key_file),
            "tls_cert_file",
            "missing beside tls_key_file",
        )?;
        refuse(
            missing(&self.tls_key_file, &self.tls_cert_file),
            "tls_key_file",
            "missing beside tls_cert_file",
        )?;
        for (key, file) in [
            ("tls_cert_file", &self.tls_cert_file),
            ("tls_key_file", &self.tls_key_file),
            ("tls_ca_file", &self.tls_ca_file),
            ("agent_client.tls_ca_file", &self.agent_client.tls_ca_file),
        ] {
            let gone = !file.is_empty() && !Path::new(file).is_file();
            refuse(gone, key, &format!("{file} is not a readable file"))?;
        }
        Ok(())
    }
}

fn refuse(wrong: bool, key: &'static str, reason: &str) -> Result<(), ConfigError> {
    if wrong { Err(ConfigError::Value { key, reason: reason.to_owned() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn load(texts: &[&str]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..texts.len()).map(|i| dir.path().join(format!("{i}.yaml"))).collect();
        for (path, text) in paths.iter().zip(texts) {
            std::fs::write(path, text).unwrap();
        }
        Config::load(&paths).map_err(|e| common::error::chain(&e))
    }

    #[test]
    fn defaults_are_those_of_the_specification() {
        let config = load(&["http: 127.0.0.1:5080\n"]).unwrap();
        assert_eq!(config.prometheus, ":5090");
        assert_eq!(config.agent_client.backoff.policy().max_retries, 9);
        let interactive = config.agent_client.interactive_backoff.policy();
        assert_eq!((interactive.max_retries, interactive.wait_min), (1, Duration::from_secs(1)));
        assert_eq!(config.backup.age_max, Duration::from_secs(86_400));
        assert!(config.ignored_sections().is_empty());
    }

    #[test]
    fn the_packaged_file_and_an_original_file_are_accepted() {
        let packaged = include_str!("../../../../dist/etc/scylla-manager.yaml");
        let uncommented: String = packaged.lines().map(|l| format!("{}\n", uncomment(l))).collect();
        assert!(
            uncommented.lines().filter(|l| !l.trim_start().starts_with('#')).count() > 40,
            "{uncommented}"
        );
        // Every line is a setting that exists, with the value that counts without it.
        let defaults = Config { http: "127.0.0.1:5080".into(), ..Config::default() };
        assert_eq!(load(&[packaged]).unwrap(), defaults);
        assert_eq!(load(&[&uncommented]).unwrap(), defaults);

        let original = "http: :5080\ntls_mode: TLSv1.3\nclient_cache_timeout: 0\nlogger:\n  sampling: {initial: 1, thereafter: 100}\n\
                        database:\n  hosts: [a, b]\n  password: hunter2\nssl:\n  validate: false\nrepair:\n  force_repair_type: row_level\n";
        let config = load(&[original]).unwrap();
        assert_eq!(config.tls_version, "TLSv1.3");
        assert_eq!(config.ignored_sections().len(), 4);
        let masked = config.masked_json();
        assert!(masked.contains(r#""password":"*******""#) && !masked.contains("hunter2"), "{masked}");
    }

    /// A line such as `#key: value` is a commented default; `# text` is an explanation.
    fn uncomment(line: &str) -> String {
        let indent = line.len() - line.trim_start().len();
        match line.trim_start().strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{}{rest}", &line[..indent]),
            _ => line.to_owned(),
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (texts, message) in [
            (&["# nothing\n"][..], "set http or https"),
            (&["http: x\nhtpps: y\n"], "unknown field `htpps`"),
            (&["http: x\nbackup:\n  age_max: -1s\n"], "time: invalid duration -1s"),
            (&["http: x\nbackup:\n  age_max: 1d\n"], "time: unknown unit d in duration 1d"),
            (&["http: x\n", "backup:\n  disk_space_free_min_percent: 100\n"], "0 to 99"),
            (&["http: x\ntls_version: TLSv1.0\n"], "TLSv1.0 is not offered"),
            (&["https: x\ntls_cert_file: /nonexistent\n"], "tls_key_file: missing beside tls_cert_file"),
            (&["https: x\ntls_ca_file: /nonexistent\n"], "tls_ca_file: /nonexistent is not a readable file"),
            (
                &["http: x\nhealthcheck:\n  max_timeout: 0s\n"],
                "healthcheck.max_timeout: must be longer than 0",
            ),
        ] {
            let error = load(texts).unwrap_err();
            assert!(error.contains(message), "{texts:?}: {error}");
        }
        assert!(load(&["http: x\nlogger:\n  levle: info\n"]).unwrap_err().contains("line 3"));
    }
}
