//! CPU pinning (spec agent.md 1.7): the agent keeps to CPUs that Scylla does not use.
//!
//! Affinity is a property of each thread, so all threads of the process are set. It concerns the whole
//! process: agents that share one process, as in tests, share it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::CpuChoice;

/// Written by Scylla's set-up; says which CPUs the database uses.
pub const CPUSET_FILE: &str = "/etc/scylla.d/cpuset.conf";
/// Where the threads of this process are.
const TASKS: &str = "/proc/self/task";

static CPUSET_LINE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"^\s*CPUSET=\s*"(?:\s*--cpuset(?:\s*|=)(?<list>[0-9,\-]+))?(?:\s*--smp(?:\s*|=)(?<smp>[0-9]+))?\s*""#)
        .expect("the pattern is constant and tested")
});

/// Pinning that did not work.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// A file that says which CPUs are free, or which threads there are, cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is there but has no line that says which CPUs Scylla uses.
    #[error("{} has no CPUSET line; run scylla_setup, or set `cpu` in the configuration", path.display())]
    NoCpuset {
        /// The file.
        path: PathBuf,
    },
    /// A CPU number that the kernel does not have.
    #[error("CPU {cpu} is beyond the {max} that can be addressed", max = CpuSet::MAX_CPU)]
    OutOfRange {
        /// The number.
        cpu: usize,
    },
    /// The kernel refused.
    #[error("set the CPUs of a thread to {cpus:?}")]
    Set {
        /// The CPUs.
        cpus: Vec<usize>,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl CpuError {
    /// Nothing says which CPUs are Scylla's, so there is nothing to keep off: no failure, but no pinning either.
    pub fn is_unconfigured(&self) -> bool {
        match self {
            Self::NoCpuset { .. } => true,
            Self::Read { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::OutOfRange { .. } | Self::Set { .. } => false,
        }
    }
}

/// What the configuration and Scylla's own settings lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinPlan {
    /// Pin all threads to these CPUs.
    Pin(BTreeSet<usize>),
    /// Scylla uses all of them: do not pin, but run on one thread only.
    NoneFree,
}

/// Pins and un-pins the threads of this process.
#[derive(Clone, Debug)]
pub struct CpuPinning {
    choice: CpuChoice,
    cpuset_file: PathBuf,
}

impl CpuPinning {
    /// Pinning by configuration; `cpuset_file` is [`CPUSET_FILE`] except in tests.
    pub fn new(choice: CpuChoice, cpuset_file: impl Into<PathBuf>) -> Self {
        Self { choice, cpuset_file: cpuset_file.into() }
    }

    /// Decides where to run. Reads Scylla's settings unless CPUs are configured.
    ///
    /// # Errors
    /// Scylla's settings are missing or say nothing.
    pub fn plan(&self) -> Result<PinPlan, CpuError> {
        match &self.choice {
            CpuChoice::List(cpus) => Ok(PinPlan::Pin(cpus.iter().copied().collect())),
            CpuChoice::Auto => {
                let own = affinity(None)?;
                let scylla = scylla_cpus(&self.cpuset_file)?;
                let free: BTreeSet<usize> = own.difference(&scylla).copied().collect();
                Ok(if free.is_empty() { PinPlan::NoneFree } else { PinPlan::Pin(free) })
            }
        }
    }

    /// Carries out [`plan`](Self::plan) and logs what it did.
    ///
    /// # Errors
    /// No plan, or the kernel refused.
    pub fn pin(&self) -> Result<(), CpuError> {
        match self.plan()? {
            PinPlan::NoneFree => {
                tracing::info!("Scylla uses all CPUs; the agent is not pinned");
                Ok(())
            }
            PinPlan::Pin(cpus) => {
                set_all_threads(&cpus)?;
                tracing::info!(?cpus, "Running on CPUs");
                Ok(())
            }
        }
    }

    /// Lets all threads run everywhere.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn unpin(&self) -> Result<(), CpuError> {
        set_all_threads(&(0..CpuSet::MAX_CPU).collect())
    }

    /// CPUs that any thread of this process may use.
    ///
    /// # Errors
    /// The threads cannot be listed.
    pub fn pinned(&self) -> Result<BTreeSet<usize>, CpuError> {
        let mut union = BTreeSet::new();
        for thread in threads()? {
            // A thread may end while the list is walked.
            union.extend(affinity(Some(thread)).unwrap_or_default());
        }
        Ok(union)
    }
}

fn read(path: &Path) -> Result<String, CpuError> {
    std::fs::read_to_string(path).map_err(|source| CpuError::Read { path: path.to_owned(), source })
}

/// CPUs of the database by its last `CPUSET` line; an empty list there means that it uses none exclusively.
fn scylla_cpus(path: &Path) -> Result<BTreeSet<usize>, CpuError> {
    let text = read(path)?;
    let line = text.lines().filter_map(|line| CPUSET_LINE.captures(line)).next_back();
    let line = line.ok_or_else(|| CpuError::NoCpuset { path: path.to_owned() })?;
    if let Some(list) = line.name("list") {
        return parse_list(list.as_str()).ok_or_else(|| CpuError::NoCpuset { path: path.to_owned() });
    }
    Ok(BTreeSet::new())
}

/// `0,2-4` as a set.
fn parse_list(list: &str) -> Option<BTreeSet<usize>> {
    let mut cpus = BTreeSet::new();
    for part in list.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse::<usize>().ok()?);
        cpus.extend(first..=last.min(CpuSet::MAX_CPU));
    }
    Some(cpus)
}

fn threads() -> Result<Vec<Pid>, CpuError> {
    let failed = |source| CpuError::Read { path: TASKS.into(), source };
    let entries = std::fs::read_dir(TASKS).map_err(failed)?;
    let ids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    Ok(ids.collect())
}

fn affinity(thread: Option<Pid>) -> Result<BTreeSet<usize>, CpuError> {
    let set =
        sched_getaffinity(thread).map_err(|e| CpuError::Read { path: TASKS.into(), source: e.into() })?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Goes over the threads until none is new: one that starts meanwhile inherits the mask of its parent, which
/// may not have been set yet.
fn set_all_threads(cpus: &BTreeSet<usize>) -> Result<(), CpuError> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        if *cpu >= CpuSet::MAX_CPU {
            return Err(CpuError::OutOfRange { cpu: *cpu });
        }
        set.set(*cpu);
    }
    let mut done = BTreeSet::new();
    loop {
        let new: Vec<Pid> = threads()?.into_iter().filter(|t| done.insert(t.as_raw_nonzero())).collect();
        if new.is_empty() {
            return Ok(());
        }
        for thread in new {
            match sched_setaffinity(Some(thread), &set) {
                // It has ended.
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(e) => {
                    let cpus = cpus.iter().copied().take(64).collect();
                    return Err(CpuError::Set { cpus, source: e.into() });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cpus: &[usize]) -> BTreeSet<usize> {
        cpus.iter().copied().collect()
    }

    #[test]
    fn cpuset_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cpuset.conf");
        for (text, expected) in [
            ("CPUSET=\"--cpuset 0,2-4\"\n", Some(set(&[0, 2, 3, 4]))),
            ("  CPUSET= \" --cpuset=1 --smp 1 \"\n", Some(set(&[1]))),
            ("CPUSET=\"--cpuset 0\"\n# note\nCPUSET=\"--cpuset 1\"\n", Some(set(&[1]))),
            ("CPUSET=\"--smp 2\"\n", Some(set(&[]))),
            ("CPUSET=\"\"\n", Some(set(&[]))),
            ("#CPUSET=\"--cpuset 0\"\n", None),
            ("", None),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(scylla_cpus(&path).ok(), expected, "{text:?}");
        }
        let missing = scylla_cpus(&dir.path().join("no")).unwrap_err();
        assert!(matches!(missing, CpuError::Read { .. }) && missing.is_unconfigured());
        assert!(!CpuError::OutOfRange { cpu: 9 }.is_unconfigured());
    }

    #[test]
    fn plans() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cpuset.conf");
        let auto = CpuPinning::new(CpuChoice::Auto, &path);
        assert!(auto.plan().is_err(), "no file");
        std::fs::write(&path, "CPUSET=\"--cpuset 0-1023\"\n").unwrap();
        assert_eq!(auto.plan().unwrap(), PinPlan::NoneFree);
        let chosen = CpuPinning::new(CpuChoice::List(vec![3, 1]), &path);
        assert_eq!(chosen.plan().unwrap(), PinPlan::Pin(set(&[1, 3])));
    }

    #[test]
    fn pinning_can_be_read_back_and_undone() {
        let before = affinity(None).unwrap();
        let first = *before.first().unwrap();
        let pinning = CpuPinning::new(CpuChoice::List(vec![first]), CPUSET_FILE);
        pinning.pin().unwrap();
        let pinned = affinity(None).unwrap();
        pinning.unpin().unwrap();
        assert_eq!(pinned, set(&[first]));
        assert!(affinity(None).unwrap().is_superset(&before));
        assert!(pinning.pinned().unwrap().is_superset(&before));
        let beyond = CpuPinning::new(CpuChoice::List(vec![100_000]), CPUSET_FILE);
        assert!(matches!(beyond.pin(), Err(CpuError::OutOfRange { cpu: 100_000 })));
    }
}
