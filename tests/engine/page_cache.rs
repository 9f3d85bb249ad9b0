//! Uploads leave the page cache as they found it: the node's memory belongs to the database.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::path::Path;
use std::process::Command;

use scylla_manager_agent::config::S3Provider;

use crate::support::{MIB, Rig, bytes};

/// Bytes of a file in the page cache, by the program `fincore`; `None` where there is none.
fn cached(path: &Path) -> Option<u64> {
    let output =
        Command::new("fincore").args(["--bytes", "--noheadings", "--output", "RES"]).arg(path).output();
    let output = output.ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).unwrap().trim().parse().ok()
}

/// Writes a file, and to the disk: dirty pages cannot leave memory.
fn write(rig: &Rig, name: &str, size: usize) -> std::path::PathBuf {
    rig.file(name, bytes(7, size));
    let path = rig.dir.path().join("data/snapshot").join(name);
    std::fs::File::open(&path).unwrap().sync_all().unwrap();
    path
}

/// Whether this file system gives pages back at all, seen without the agent.
fn can_forget(path: &Path) -> bool {
    let file = std::fs::File::open(path).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    cached(path) == Some(0)
}

#[tokio::test]
async fn uploaded_files_do_not_stay_in_memory() {
    let rig = Rig::new(S3Provider::Aws).await;
    let probe = write(&rig, "me-0-big-Data.db", MIB);
    match cached(&probe) {
        None => return eprintln!("skipped: there is no program fincore"),
        Some(_) if !can_forget(&probe) => {
            return eprintln!("skipped: the file system of the temporary directory keeps files in memory");
        }
        Some(_) => {}
    }
    let sizes = [1, 4096, 100_000, 3 * MIB, 23 * MIB + 77];
    let files = sizes.map(|size| write(&rig, &format!("me-{size}-big-Data.db"), size));
    assert!(files.iter().all(|file| cached(file).unwrap() > 0), "what was just written is in memory");
    let mut copy = rig.movedir();
    // The files stay, so that they can be looked at.
    copy.remove_source = false;
    rig.run(copy).await;
    for file in &files {
        assert_eq!(cached(file), Some(0), "{}", file.display());
    }
}
