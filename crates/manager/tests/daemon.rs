//! The daemon as a process: it starts once, serves, and stops when it is told to.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A debug build on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_scylla-manager"))
}

struct Daemon {
    child: Child,
    log: Receiver<String>,
    http: String,
    prometheus: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Gone already when the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(dir: &Path) -> std::path::PathBuf {
    let file = dir.join("scylla-manager.yaml");
    let text = format!(
        "http: 127.0.0.1:0\nprometheus: 127.0.0.1:0\ndebug: ''\ndatabase:\n  path: {}\n",
        dir.join("manager.db").display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

impl Daemon {
    /// Starts it and reads its log until it says where it listens.
    fn start(config: &Path) -> Self {
        let mut child = program().arg("-c").arg(config).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        // Ends with the process.
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let mut all = String::new();
        let mut address_of = |listener: &str| loop {
            let line = log.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{e} after: {all}"));
            if line.contains("Listening") && line.contains(&format!("\"{listener}\"")) {
                let (_, rest) = line.split_once("\"127.0.0.1:").unwrap();
                return format!("127.0.0.1:{}", rest.split_once('"').unwrap().0);
            }
            all.push_str(&line);
        };
        let http = address_of("http");
        let prometheus = address_of("prometheus");
        Self { child, log, http, prometheus }
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Its exit code and the rest of its log.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => rest.push_str(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {rest}"),
            }
        }
        (self.child.wait().unwrap().code(), rest)
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn it_serves_keeps_others_away_and_stops_on_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path());
    let daemon = Daemon::start(&config);
    assert!(get(&daemon.http, "/ping").starts_with("HTTP/1.1 204"));
    assert!(get(&daemon.http, "/api/v1/version").ends_with(&format!("{{\"version\":\"{VERSION}\"}}")));
    assert!(get(&daemon.prometheus, "/metrics").contains("scylla_manager_server_current_version"));
    assert!(get(&daemon.prometheus, "/v1/agent/self").contains("scylla-manager"));

    let second = program().arg("--config-file").arg(&config).output().unwrap();
    assert!(!second.status.success());
    assert!(text(&second).contains("another scylla-manager uses it"), "{}", text(&second));

    // One wish, passed on twice.
    daemon.signal("-TERM");
    daemon.signal("-INT");
    let (code, log) = daemon.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("Scylla Manager stops"), "{log}");
    let again = Daemon::start(&config);
    again.signal("-INT");
    assert_eq!(again.ended().0, Some(0));
}

#[test]
fn a_start_that_fails_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.yaml");
    let unknown = dir.path().join("unknown.yaml");
    std::fs::write(&unknown, "http: 127.0.0.1:0\nhtpps: x\n").unwrap();
    for (file, reason) in [(&missing, "no address for the REST API"), (&unknown, "htpps")] {
        let output = program().arg("-c").arg(file).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output).contains("STARTUP ERROR") && text(&output).contains(reason),
            "{}",
            text(&output)
        );
    }
}

#[test]
fn version_and_update_check_need_no_configuration() {
    let version = program().args(["-c", "/nonexistent", "--version"]).output().unwrap();
    assert_eq!((version.status.code(), text(&version).as_str()), (Some(0), format!("{VERSION}\n").as_str()));
    let check = program().arg("check-for-updates").output().unwrap();
    assert!(check.status.success() && text(&check).contains("not available"));
}
