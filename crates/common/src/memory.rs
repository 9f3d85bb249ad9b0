//! Memory of the daemons that stays flat.
//!
//! glibc gives threads heaps of their own, up to eight for each CPU, and what lies free in one serves no other. A
//! daemon whose worker threads take turns at bursts of small objects then holds several times what it needs. The limit
//! must stand in the environment before the program starts.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// The variable of glibc; whoever sets it decides.
pub const ARENA_LIMIT: &str = "MALLOC_ARENA_MAX";

/// Heaps for all threads together.
const ARENAS: &str = "2";

/// Starts the program again in this process, with a limit on heaps, unless there is one. To be called at the very
/// beginning of `main`: nothing that was done before survives.
///
/// # Errors
/// The program cannot be started again; it may as well go on as it is.
pub fn limit_heaps() -> std::io::Result<()> {
    if std::env::var_os(ARENA_LIMIT).is_some() {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    let mut again = Command::new(std::env::current_exe()?);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    Err(again.args(arguments).env(ARENA_LIMIT, ARENAS).exec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs this test again as a program of its own, which must find the limit in its environment.
    #[test]
    fn a_program_finds_itself_limited_and_starts_only_once() {
        const INNER: &str = "TEST_OF_HEAP_LIMIT";
        if std::env::var_os(INNER).is_some() {
            limit_heaps().unwrap();
            assert_eq!(std::env::var(ARENA_LIMIT).unwrap(), ARENAS);
            return;
        }
        let inner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::tests::a_program_finds_itself_limited_and_starts_only_once"])
            .env(INNER, "1")
            .env_remove(ARENA_LIMIT)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&inner.stdout);
        assert!(inner.status.success() && said.contains("1 passed"), "{said}");
    }
}
