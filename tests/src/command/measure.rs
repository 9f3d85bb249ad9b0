//! What benchmarks read of a process and how they print it.

use anyhow::Context;

/// Makes the kernel count the peak of a process's memory from now on.
///
/// # Errors
/// The process is gone, or belongs to somebody else.
pub fn reset_memory_peak(pid: u32) -> anyhow::Result<()> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5")
        .with_context(|| format!("reset the memory peak of process {pid}"))
}

/// Largest resident memory of a process since its start or the last reset, MiB.
///
/// # Errors
/// The process is gone.
pub fn memory_peak(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("read the memory peak of process {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().context("parse VmHWM")?;
    Ok(kib / 1024.0)
}

/// Processor time that a process has taken so far, seconds.
///
/// # Errors
/// The process is gone.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("read the processor time of process {pid}"))?;
    // The name of the program, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        |at: usize| -> anyhow::Result<f64> { Ok(fields.get(at).context("no times in /proc")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / rustix::param::clock_ticks_per_second() as f64)
}

/// One measured value with what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// What was measured.
    pub what: &'static str,
    /// The value.
    pub measured: f64,
    /// At most this is wanted.
    pub at_most: f64,
    /// Unit of both.
    pub unit: &'static str,
}

impl Figure {
    /// Whether it is as wanted.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.measured <= self.at_most
    }

    /// The figure as a line of a report.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { what, measured, at_most, unit } = self;
        let verdict = if self.is_met() { "met" } else { "MISSED" };
        format!("  {what:<34}{measured:>8.2} {unit:<4} wanted: at most {at_most} {unit}: {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_whether_it_is_as_wanted() {
        let figure = |measured| Figure { what: "backup list", measured, at_most: 2.0, unit: "s" };
        assert!(figure(2.0).line().ends_with("2.00 s    wanted: at most 2 s: met"), "{}", figure(2.0).line());
        assert!(figure(2.01).line().ends_with("2.01 s    wanted: at most 2 s: MISSED"));
    }

    #[test]
    fn the_peak_of_this_process_is_known_and_can_be_reset() {
        let pid = std::process::id();
        let ballast = vec![1_u8; 64 << 20];
        let with_ballast = memory_peak(pid).unwrap();
        assert!(with_ballast > 64.0 && ballast.contains(&1));
        drop(ballast);
        reset_memory_peak(pid).unwrap();
        assert!(memory_peak(pid).unwrap() < with_ballast);
    }
}
