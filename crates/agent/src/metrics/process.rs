//! The usual `process_*` metrics, read from `/proc/self`.

use prometheus::{Counter, Gauge, Registry};

/// Facts about this process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Facts {
    cpu_seconds: f64,
    threads: f64,
    start_time: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
    open_fds: f64,
    max_fds: f64,
}

pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    threads: Gauge,
    start_time: Gauge,
    virtual_bytes: Gauge,
    resident_bytes: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
}

impl ProcessMetrics {
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let cpu_seconds = Counter::new("process_cpu_seconds_total", "User and system CPU time in seconds")?;
        registry.register(Box::new(cpu_seconds.clone()))?;
        Ok(Self {
            cpu_seconds,
            threads: gauge("process_threads", "Number of OS threads")?,
            start_time: gauge("process_start_time_seconds", "Start time since the epoch in seconds")?,
            virtual_bytes: gauge("process_virtual_memory_bytes", "Virtual memory in bytes")?,
            resident_bytes: gauge("process_resident_memory_bytes", "Resident memory in bytes")?,
            open_fds: gauge("process_open_fds", "Open file descriptors")?,
            max_fds: gauge("process_max_fds", "File descriptors at most")?,
        })
    }

    /// Reads the facts again; where `/proc` is missing the values stay as they are.
    pub fn update(&self) {
        let Some(facts) = Facts::read() else { return };
        self.cpu_seconds.inc_by((facts.cpu_seconds - self.cpu_seconds.get()).max(0.0));
        for (gauge, value) in [
            (&self.threads, facts.threads),
            (&self.start_time, facts.start_time),
            (&self.virtual_bytes, facts.virtual_bytes),
            (&self.resident_bytes, facts.resident_bytes),
            (&self.open_fds, facts.open_fds),
            (&self.max_fds, facts.max_fds),
        ] {
            gauge.set(value);
        }
    }
}

impl Facts {
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let facts = Self::parse_stat(&stat, ticks, rustix::param::page_size() as f64, boot)?;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Some(Self {
            open_fds: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            max_fds: limit.map_or(f64::INFINITY, |n| n as f64),
            ..facts
        })
    }

    /// `/proc/<pid>/stat`: fields are counted from the end of the command, which may hold blanks (proc(5)).
    fn parse_stat(stat: &str, ticks: f64, page: f64, boot: f64) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // Field 3 of the manual page is the first one here.
        let field = |n: usize| fields.get(n - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            threads: field(20)?,
            start_time: boot + field(22)? / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
            open_fds: 0.0,
            max_fds: 0.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_parsed_after_the_command() {
        let stat = "42 (a) b) c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 7 0 1000 8192 3 184467";
        let facts = Facts::parse_stat(stat, 100.0, 4096.0, 1_000_000.0).unwrap();
        assert_eq!((facts.cpu_seconds, facts.threads), (2.0, 7.0));
        assert_eq!((facts.virtual_bytes, facts.resident_bytes), (8192.0, 12288.0));
        assert_eq!(facts.start_time, 1_000_010.0);
        assert_eq!(Facts::parse_stat("42 (x) S 1", 100.0, 4096.0, 0.0), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let facts = Facts::read().unwrap();
        assert!(facts.resident_bytes > 0.0 && facts.threads >= 1.0 && facts.open_fds >= 3.0, "{facts:?}");
    }
}
