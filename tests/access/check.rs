//! `check-location` as a process with an environment of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::aws::{Aws, BUCKET, SECRET, SESSION};

/// Nothing here takes as long on any machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A home directory with a configuration file, and variables.
pub struct Check {
    pub home: tempfile::TempDir,
    yaml: String,
    env: Vec<(String, String)>,
}

/// What became of it.
pub struct Outcome {
    pub success: bool,
    pub text: String,
}

impl Outcome {
    /// Whether a line was printed.
    pub fn has(&self, line: &str) -> bool {
        self.text.lines().any(|l| l == line)
    }

    /// The line that starts so.
    pub fn line(&self, start: &str) -> &str {
        self.text
            .lines()
            .find(|l| l.starts_with(start))
            .unwrap_or_else(|| panic!("no {start:?} in\n{}", self.text))
    }
}

impl Check {
    pub fn new(yaml: &str) -> Self {
        Self { home: tempfile::tempdir().unwrap(), yaml: yaml.to_owned(), env: Vec::new() }
    }

    /// At AWS: everything but metadata is behind the proxy.
    pub fn at(aws: &Aws, yaml: &str) -> Self {
        // The proxy answers to names for which it has no certificate.
        let yaml = format!("{yaml}\nrclone: {{insecure_skip_verify: true}}\n");
        Self::new(&yaml)
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &format!("http://{}", aws.metadata))
            .env("HTTPS_PROXY", &format!("http://{}", aws.proxy))
            .env("HTTP_PROXY", &format!("http://{}", aws.proxy))
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Not a machine of AWS.
    pub fn without_machine(self) -> Self {
        self.env("AWS_EC2_METADATA_DISABLED", "true")
    }

    /// Writes a file below the home directory.
    pub fn file(self, path: &str, text: &str) -> Self {
        let path = self.home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub fn path(&self, path: &str) -> String {
        self.home.path().join(path).display().to_string()
    }

    /// Runs it to its end.
    pub async fn run(&self, bucket: &str, arguments: &[&str]) -> Outcome {
        let yaml = self.home.path().join("agent.yaml");
        std::fs::write(&yaml, &self.yaml).unwrap();
        let location = format!("s3:{bucket}");
        let output = Command::new(Path::new(env!("CARGO_BIN_EXE_testbed")))
            .args(["exec", "agent", "check-location", "-c", yaml.to_str().unwrap(), "-L", &location])
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(LIMIT, output).await.expect("an end within a minute").unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        for secret in [SECRET, SESSION] {
            assert!(!text.contains(secret), "a secret is in\n{text}");
        }
        Outcome { success: output.status.success(), text }
    }

    /// Runs it with `--debug`, and all steps must succeed.
    pub async fn succeeds(&self) -> Outcome {
        let outcome = self.run(BUCKET, &["--debug"]).await;
        assert!(outcome.success, "{}", outcome.text);
        for step in [
            "put",
            "list",
            "get",
            "delete",
            "multipart start",
            "multipart part",
            "multipart list",
            "multipart continue",
            "multipart finish",
            "multipart abort",
        ] {
            assert!(outcome.has(&format!("{step}: ok")), "{step}\n{}", outcome.text);
        }
        outcome
    }
}
