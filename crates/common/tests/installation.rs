//! The units and scripts of `dist` do what the documents say, in a scratch root.
//!
//! Here because every crate is built after this one, like the tests of the documents.

#![allow(clippy::unwrap_used, reason = "a scratch root that cannot be made ends the test")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const AGENT_YAML: &str = "etc/scylla-manager-agent/scylla-manager-agent.yaml";
const WANTS: &str = "etc/systemd/system/multi-user.target.wants";

fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist")
}

/// Runs a command, or says that the test is skipped where the program is not installed.
fn run(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: {} is not installed", command.get_program().display());
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A system that has nothing but accounts, our units and configuration, and the slice of Scylla's package.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        root.write(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nscylla:x:994:994::/var/lib/scylla:/bin/false\n",
        );
        root.write("etc/group", "root:x:0:\nscylla:x:994:\n");
        root.write("usr/lib/systemd/system/scylla-helper.slice", "[Slice]\n");
        for unit in ["scylla-manager.service", "scylla-manager-agent.service"] {
            let source = std::fs::read_to_string(dist().join("systemd").join(unit)).unwrap();
            root.write(&format!("usr/lib/systemd/system/{unit}"), &source);
        }
        root.write(
            AGENT_YAML,
            &std::fs::read_to_string(dist().join("etc/scylla-manager-agent.yaml")).unwrap(),
        );
        root
    }

    /// With the accounts that only root can make.
    fn with_accounts() -> Self {
        let root = Self::new();
        let accounts = root.read("etc/passwd");
        let manager = "scylla-manager:x:994:993::/var/lib/scylla-manager:/usr/sbin/nologin\n";
        root.write("etc/passwd", &format!("{accounts}{manager}"));
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        self.path(path).metadata().unwrap().permissions().mode() & 0o7777
    }

    fn owner(&self, path: &str) -> (u32, u32) {
        let metadata = self.path(path).metadata().unwrap();
        (metadata.uid(), metadata.gid())
    }

    /// Runs one of our scripts on this root, with nobody who answers its questions.
    fn script(&self, name: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(dist().join("sbin").join(name));
        command.arg("--root").arg(self.0.path()).args(arguments).stdin(std::process::Stdio::null());
        command.output().unwrap()
    }

    fn script_ok(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.script(name, arguments);
        assert!(output.status.success(), "{name} {arguments:?}: {}", text(&output));
        text(&output)
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn systemd_accepts_the_units() {
    let root = Root::new();
    for target in ["sysinit", "basic", "shutdown", "multi-user", "network-online"] {
        root.write(&format!("usr/lib/systemd/system/{target}.target"), "[Unit]\n");
    }
    for program in ["scylla-manager", "scylla-manager-agent"] {
        let path = format!("usr/bin/{program}");
        root.write(&path, "#!/bin/sh\n");
        std::fs::set_permissions(root.path(&path), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(format!("--root={}", root.0.path().display()));
    verify.args(["scylla-manager.service", "scylla-manager-agent.service"]);
    let Some(output) = run(&mut verify) else { return };
    // A key that is misspelt is only a line, not a failure.
    assert!(output.status.success() && text(&output).trim().is_empty(), "{}", text(&output));
}

#[test]
fn the_units_run_without_privileges() {
    for unit in ["scylla-manager.service", "scylla-manager-agent.service"] {
        let text = std::fs::read_to_string(dist().join("systemd").join(unit)).unwrap();
        for line in
            ["User=scylla-manager", "NoNewPrivileges=true", "CapabilityBoundingSet=", "PrivateTmp=true"]
        {
            assert!(text.lines().any(|l| l == line), "{unit} has no {line}");
        }
    }
    let agent = std::fs::read_to_string(dist().join("systemd/scylla-manager-agent.service")).unwrap();
    assert!(agent.contains("\nSlice=scylla-helper.slice\n") && agent.contains("\nIOSchedulingClass=idle\n"));
    assert!(!dist().join("systemd/scylla-helper.slice").exists(), "that slice is Scylla's");
}

/// Every script below `dist`.
fn scripts() -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![dist()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if std::fs::read(&path).unwrap().starts_with(b"#!") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn the_scripts_are_clean() {
    let scripts = scripts();
    assert!(scripts.len() > 12, "{scripts:?}");
    for script in &scripts {
        let mode = script.metadata().unwrap().permissions().mode();
        assert!(mode & 0o111 == 0o111, "{} is not executable", script.display());
    }
    let Some(output) = run(Command::new("shellcheck").args(&scripts)) else { return };
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn the_scripts_teach_and_refuse_what_they_do_not_know() {
    for name in
        ["sbin/scyllamgr_setup", "sbin/scyllamgr_agent_setup", "sbin/scyllamgr_auth_token_gen", "package"]
    {
        let script = dist().join(name);
        let help = Command::new(&script).arg("--help").output().unwrap();
        assert!(help.status.success() && text(&help).contains("\nExamples:\n"), "{name}: {}", text(&help));
        let wrong = Command::new(&script).arg("--no-such-flag").output().unwrap();
        assert_eq!(wrong.status.code(), Some(1), "{name}");
        assert!(text(&wrong).contains("--no-such-flag; see --help"), "{name}: {}", text(&wrong));
    }
    let token = Command::new(dist().join("sbin/scyllamgr_auth_token_gen")).output().unwrap().stdout;
    assert!(token.len() == 128 && token.iter().all(u8::is_ascii_alphanumeric), "{token:?}");
}

#[test]
fn a_node_is_set_up() {
    let root = Root::with_accounts();
    let before = root.read(AGENT_YAML);
    let text = root.script_ok("scyllamgr_agent_setup", &["--yes", "--no-enable-service"]);
    assert!(text.contains("the other nodes of this cluster"), "{text}");

    let config = root.read(AGENT_YAML);
    let token =
        config.lines().find_map(|line| line.strip_prefix("auth_token: '")?.strip_suffix('\'')).unwrap();
    assert_eq!(token.len(), 128);
    assert_eq!(
        config.replace(&format!("auth_token: '{token}'"), "#auth_token: ''"),
        before,
        "all else stays"
    );
    assert!(!text.contains(token), "the token is not shown");
    assert_eq!((root.mode(AGENT_YAML), root.mode("etc/scylla-manager-agent")), (0o640, 0o750));
    assert_eq!(root.mode("var/lib/scylla-manager"), 0o700);
    if is_root() {
        assert_eq!(root.owner(AGENT_YAML), (0, 993));
        assert_eq!(root.owner("var/lib/scylla-manager"), (994, 993));
    }

    root.script_ok("scyllamgr_agent_setup", &["--yes", "--no-enable-service"]);
    assert_eq!(root.read(AGENT_YAML), config, "a second time nothing changes");

    root.write("token", "of-the-first-node\n");
    let token_file = root.path("token").display().to_string();
    let flags = ["--yes", "--no-enable-service", "--auth-token-file", &token_file];
    root.script_ok("scyllamgr_agent_setup", &flags);
    assert!(root.read(AGENT_YAML).contains("\nauth_token: 'of-the-first-node'\n"));

    root.write("token", "it's");
    let refused = root.script("scyllamgr_agent_setup", &flags);
    assert!(!refused.status.success());
    assert!(root.read(AGENT_YAML).contains("\nauth_token: 'of-the-first-node'\n"));
}

#[test]
fn the_slice_of_the_database_counts_and_must_be_there() {
    let root = Root::with_accounts();
    root.write("etc/systemd/system/scylla-helper.slice", "[Slice]\nCPUQuota=1%\n");
    root.write("etc/systemd/system/scylla-helper.slice.d/more.conf", "[Slice]\n");
    root.script_ok("scyllamgr_agent_setup", &["--yes", "--no-enable-service"]);
    let mut left: Vec<String> = std::fs::read_dir(root.path("etc/systemd/system"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left[0].starts_with("scylla-helper.slice.d.scylla-manager.bak."), "{left:?}");
    assert!(left[1].starts_with("scylla-helper.slice.scylla-manager.bak."), "{left:?}");

    std::fs::remove_file(root.path("usr/lib/systemd/system/scylla-helper.slice")).unwrap();
    let config = root.read(AGENT_YAML).replace("auth_token: '", "#auth_token: '");
    root.write(AGENT_YAML, &config);
    let refused = root.script("scyllamgr_agent_setup", &["--yes", "--no-enable-service"]);
    assert!(text(&refused).contains("--no-scylla-helper-slice"), "{}", text(&refused));
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(root.read(AGENT_YAML), config, "nothing is half done");
    root.script_ok("scyllamgr_agent_setup", &["--yes", "--no-enable-service", "--no-scylla-helper-slice"]);
}

#[test]
fn questions_need_somebody_who_answers() {
    let root = Root::with_accounts();
    let output = root.script("scyllamgr_agent_setup", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no answer; --yes asks nothing"), "{}", text(&output));
}

#[test]
fn a_machine_for_the_manager_is_set_up() {
    let root = Root::with_accounts();
    root.write("var/lib/scylla-manager/scylla-manager.db", "");
    root.script_ok("scyllamgr_setup", &["--yes", "--no-enable-service", "--no-scylla-setup"]);
    assert_eq!(root.mode("var/lib/scylla-manager"), 0o700);
    assert_eq!(root.mode("var/lib/scylla-manager/scylla-manager.db"), 0o600);
    assert_eq!(root.mode("etc/scylla-manager"), 0o755);
}

#[test]
fn services_are_enabled() {
    if run(Command::new("systemctl").arg("--version")).is_none() {
        return;
    }
    let root = Root::with_accounts();
    root.script_ok("scyllamgr_setup", &["-y"]);
    root.script_ok("scyllamgr_agent_setup", &["-y"]);
    for unit in ["scylla-manager.service", "scylla-manager-agent.service"] {
        assert!(root.path(WANTS).join(unit).is_symlink(), "{unit}");
    }
}

#[test]
fn accounts_are_made_and_the_agent_shares_the_uid_of_the_database() {
    if !is_root() {
        eprintln!("skipped: only root makes accounts");
        return;
    }
    let root = Root::new();
    if run(Command::new("useradd").arg("--help")).is_none() {
        return;
    }
    let ids = |name: &str| {
        let passwd = root.read("etc/passwd");
        let line = passwd.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap().to_owned();
        line.split(':').skip(2).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    root.script_ok("scyllamgr_setup", &["--prepare"]);
    assert_ne!(ids("scylla-manager")[0], "994", "an account of its own");
    let group = ids("scylla-manager")[1].clone();
    root.script_ok("scyllamgr_agent_setup", &["--prepare"]);
    assert_eq!(ids("scylla-manager"), ["994", &group]);
    assert_eq!(root.owner("var/lib/scylla-manager").0, 994);
    assert!(root.read(AGENT_YAML).contains("#auth_token: ''"), "an installation makes no token");
}
