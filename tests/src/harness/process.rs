//! Programs as child processes: started with a log file, stopped politely or killed, gone with their owner.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::wait::{Deadline, wait_for};

/// One of the three programs, ours or somebody else's.
#[derive(Clone, Debug)]
pub struct Program {
    command: PathBuf,
    first_arguments: Vec<String>,
}

impl Program {
    /// Our own program `name` (`agent`, `manager`, `sctool`) out of the `testbed` executable.
    #[must_use]
    pub fn own(testbed: &Path, name: &str) -> Self {
        Self { command: testbed.to_owned(), first_arguments: vec!["exec".to_owned(), name.to_owned()] }
    }

    /// Any other executable that takes the same arguments.
    #[must_use]
    pub fn foreign(command: impl Into<PathBuf>) -> Self {
        Self { command: command.into(), first_arguments: Vec::new() }
    }

    /// A command without the variables that would send loopback traffic elsewhere.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.command);
        command.args(&self.first_arguments);
        for name in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "AWS_CA_BUNDLE",
        ] {
            command.env_remove(name);
        }
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }
}

/// The programs of one installation.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Node agent.
    pub agent: Program,
    /// Manager daemon.
    pub manager: Program,
    /// Command line.
    pub sctool: Program,
}

impl Programs {
    /// Our own three, out of the `testbed` executable.
    #[must_use]
    pub fn own(testbed: &Path) -> Self {
        let own = |name| Program::own(testbed, name);
        Self { agent: own("agent"), manager: own("manager"), sctool: own("sctool") }
    }
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    name: String,
    log: PathBuf,
}

impl Child {
    /// Starts a program with its output appended to `log`.
    ///
    /// # Errors
    /// The log cannot be opened or the program not started.
    pub fn start(name: &str, program: &Program, arguments: &[&str], log: &Path) -> anyhow::Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let mut command = program.command();
        command.args(arguments).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let process = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { process, name: name.to_owned(), log: log.to_owned() })
    }

    /// Process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// File with everything it printed.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until something accepts connections at `address`.
    ///
    /// # Errors
    /// The process ended first, or the deadline passed; the end of its log is in the message.
    pub async fn wait_listening(&mut self, address: SocketAddr, deadline: Deadline) -> anyhow::Result<()> {
        let what = format!("{} listening on {address}", self.name);
        let (process, name) = (&mut self.process, &self.name);
        let result = wait_for(&what, deadline, async || {
            if let Some(status) = process.try_wait()? {
                bail!("{name} ended with {status}");
            }
            let connect = tokio::net::TcpStream::connect(address);
            let connected = tokio::time::timeout(Duration::from_secs(1), connect).await;
            Ok(matches!(connected, Ok(Ok(_))).then_some(()))
        });
        result.await.with_context(|| self.log_tail())
    }

    /// The last lines of the log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(20)..];
        format!("{} (log {}):\n{}", self.name, self.log.display(), tail.join("\n"))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            // The process may have ended already.
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends it as `kill -9` does, and waits for that.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.process.kill()?;
        self.process.wait()
    }

    /// Asks it to stop with SIGTERM and waits.
    ///
    /// # Errors
    /// It is still there at the deadline.
    pub async fn stop(&mut self, deadline: Deadline) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let what = format!("end of {}", self.name);
        let process = &mut self.process;
        let ended = wait_for(&what, deadline, async || Ok(process.try_wait()?));
        ended.await.with_context(|| self.log_tail())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A TCP port that is free on all of these addresses at this moment: `wanted` if it can be had.
///
/// # Errors
/// An address is not local, or fifty ports in a row were taken on one of them.
pub fn free_port(addresses: &[IpAddr], wanted: Option<u16>) -> anyhow::Result<u16> {
    let first = *addresses.first().context("no address to find a port for")?;
    let is_free = |address: &IpAddr, port: u16| TcpListener::bind((*address, port)).is_ok();
    if let Some(port) = wanted.filter(|port| addresses.iter().all(|address| is_free(address, *port))) {
        return Ok(port);
    }
    for _ in 0..50 {
        let probe = TcpListener::bind((first, 0)).with_context(|| format!("bind {first}"))?;
        let port = probe.local_addr()?.port();
        if addresses[1..].iter().all(|address| is_free(address, port)) {
            return Ok(port);
        }
    }
    bail!("no port is free on all of {addresses:?}")
}
