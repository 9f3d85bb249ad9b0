//! The live view of a run (spec/sctool.md 8.1): one line on the run, one per host with a bar, rate and time left.
//!
//! Rates come from what was uploaded between looks at the run. Bytes that the location had already count as done
//! but never as rate, or the time left of the rest would look far too short.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use common::api::manager::{
    BackupProgress, HostProgress, ProgressNumbers, RunProgress, TaskRun, ValidateHostProgress,
};
use common::task::Stage;
use common::units::format_size;

use super::backup_progress::{Filter, run_status};
use super::{View, text};

/// Time over which a rate is averaged: long enough to be calm, short enough to follow a changed limit.
const WINDOW: TimeDelta = TimeDelta::seconds(30);
/// Hosts shown at most, so that the view fits on a screen; those that are done give way first.
const MAX_HOSTS: usize = 20;
/// Characters of a bar.
const BAR: usize = 24;

/// What earlier looks at the run have shown.
#[derive(Debug, Default)]
pub struct Watch {
    total: Meter,
    hosts: BTreeMap<String, Meter>,
}

/// Measures the rate of a counter.
#[derive(Debug, Default)]
struct Meter {
    samples: VecDeque<(DateTime<Utc>, u64)>,
}

impl Meter {
    fn push(&mut self, now: DateTime<Utc>, bytes: u64) {
        // A counter that went back belongs to work that begins again.
        if self.samples.back().is_some_and(|(_, last)| bytes < *last) {
            self.samples.clear();
        }
        self.samples.push_back((now, bytes));
        while self.samples.len() > 2 && self.samples[1].0 <= now - WINDOW {
            self.samples.pop_front();
        }
    }

    /// Bytes per second; zero where nothing moved or nothing is known yet.
    fn rate(&self) -> u64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else { return 0 };
        let millis = u64::try_from((last.0 - first.0).num_milliseconds()).unwrap_or(0);
        (last.1 - first.1).saturating_mul(1000).checked_div(millis).unwrap_or(0)
    }
}

impl Watch {
    /// The view of a backup, and the sample that the next one measures against.
    pub fn backup(
        &mut self,
        task: &str,
        answer: &RunProgress<BackupProgress>,
        filter: &Filter,
        now: DateTime<Utc>,
        view: &View,
    ) -> String {
        let none = BackupProgress::default();
        let progress = answer.progress.as_ref().unwrap_or(&none);
        self.total.push(now, progress.numbers.uploaded);
        for host in &progress.hosts {
            self.hosts.entry(host.host.clone()).or_default().push(now, host.numbers.uploaded);
        }
        let stage = progress.stage.map_or("", Stage::description);
        let mut head = headline(task, &answer.run, stage, now);
        if !progress.snapshot_tag.is_empty() {
            head.push_str(&format!(", {}", progress.snapshot_tag));
        }
        let mut rows: Vec<[String; 5]> = Vec::new();
        if progress.numbers.size > 0 {
            let hosts = chosen(progress, filter);
            rows.extend(
                hosts.iter().map(|host| row(&host.host, &host.numbers, self.hosts.get(&host.host), view)),
            );
            rows.push(row("total", &progress.numbers, Some(&self.total), view));
        }
        finish([vec![head], aligned(&rows)].concat(), view)
    }
}

/// The view of a validation: it counts files and knows no total, so that there is no bar.
pub fn validate(
    task: &str,
    answer: &RunProgress<Vec<ValidateHostProgress>>,
    now: DateTime<Utc>,
    view: &View,
) -> String {
    let rows = answer.progress.as_deref().unwrap_or_default();
    let sum = |field: fn(&ValidateHostProgress) -> u64| rows.iter().map(field).sum::<u64>();
    let counts = format!(
        "scanned {} files, missing {}, orphaned {}",
        sum(|row| row.scanned_files),
        sum(|row| row.missing_files),
        sum(|row| row.orphaned_files)
    );
    finish(vec![headline(task, &answer.run, "", now), counts], view)
}

fn headline(task: &str, run: &TaskRun, stage: &str, now: DateTime<Utc>) -> String {
    let elapsed = text::elapsed(run.start_time, run.end_time, now);
    format!("{task}: {}, {elapsed}", run_status(run.status, stage))
}

/// The hosts to show, in the order of the answer.
fn chosen<'a>(progress: &'a BackupProgress, filter: &Filter) -> Vec<&'a HostProgress> {
    let is_done = |host: &HostProgress| done(&host.numbers) >= host.numbers.size;
    let mut hosts: Vec<&HostProgress> =
        progress.hosts.iter().filter(|host| filter.hosts.matches(&host.host)).collect();
    if hosts.len() > MAX_HOSTS {
        hosts.sort_by_key(|host| is_done(host));
        hosts.truncate(MAX_HOSTS);
    }
    hosts
}

fn done(numbers: &ProgressNumbers) -> u64 {
    numbers.uploaded + numbers.skipped
}

/// Name, bar, share and bytes, rate, time left.
fn row(name: &str, numbers: &ProgressNumbers, meter: Option<&Meter>, view: &View) -> [String; 5] {
    let (done, size) = (done(numbers), numbers.size);
    if size == 0 {
        // Not indexed yet, or nothing to do: nobody knows.
        return [name.to_owned(), bar(0, view), "   -".to_owned(), String::new(), String::new()];
    }
    let share = text::progress(done, numbers.failed, size);
    let bytes = format!("{share:>4} {}/{}", format_size(done), format_size(size));
    let rate = meter.map_or(0, Meter::rate);
    let left = size.saturating_sub(done);
    let (speed, time) = match left.checked_div(rate) {
        Some(seconds) if left > 0 => {
            (format!("{}/s", format_size(rate)), format!("{} left", text::seconds(seconds)))
        }
        _ => (String::new(), String::new()),
    };
    [name.to_owned(), bar(text::percent(done, size), view), bytes, speed, time]
}

fn bar(percent: u64, view: &View) -> String {
    let (full, empty) = if view.utf8 { ("█", "░") } else { ("#", ".") };
    let filled = usize::try_from(percent).unwrap_or(100).min(100) * BAR / 100;
    full.repeat(filled) + &empty.repeat(BAR - filled)
}

fn aligned(rows: &[[String; 5]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Cuts the lines to the terminal: a line that wraps would stay on the screen at the next drawing.
fn finish(lines: Vec<String>, view: &View) -> String {
    let width = view.width.unwrap_or(usize::MAX);
    let cut: Vec<String> = lines.iter().map(|line| line.chars().take(width).collect()).collect();
    cut.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(second: i64) -> DateTime<Utc> {
        "2026-03-02T02:30:00Z".parse::<DateTime<Utc>>().expect("valid") + TimeDelta::seconds(second)
    }

    fn answer(uploaded: u64) -> RunProgress<BackupProgress> {
        let text = format!(
            r#"{{"run":{{"cluster_id":"5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01","type":"backup","status":"RUNNING",
                "task_id":"a41c7d90-3b52-4e8f-8c60-1d2e3f405162","id":"0f6b8c1a-5d20-11f1-9a3e-02420a000105",
                "start_time":"2026-03-02T02:30:00Z"}},
              "progress":{{"snapshot_tag":"sm_20260302023012UTC","stage":"UPLOAD","size":{},"uploaded":{uploaded},
                "skipped":{},"hosts":[{{"host":"10.20.0.11","size":{},"uploaded":{uploaded},"skipped":{}}},
                {{"host":"10.20.0.12","size":0}}]}}}}"#,
            4096 * MIB,
            1024 * MIB,
            4096 * MIB,
            1024 * MIB,
        );
        serde_json::from_str(&text).expect("progress")
    }

    #[test]
    fn bars_with_rate_and_time_left() {
        let (mut watch, view) = (Watch::default(), View::plain());
        let mut draw = |uploaded, second| {
            watch.backup("backup/nightly", &answer(uploaded), &Filter::default(), at(second), &view)
        };
        insta::assert_snapshot!(draw(0, 10), @"
        backup/nightly: RUNNING (uploading data), 10s, sm_20260302023012UTC
        10.20.0.11  ██████░░░░░░░░░░░░░░░░░░   25% 1GiB/4GiB
        10.20.0.12  ░░░░░░░░░░░░░░░░░░░░░░░░     -
        total       ██████░░░░░░░░░░░░░░░░░░   25% 1GiB/4GiB
        ");
        insta::assert_snapshot!(draw(1024 * MIB, 20), @"
        backup/nightly: RUNNING (uploading data), 20s, sm_20260302023012UTC
        10.20.0.11  ████████████░░░░░░░░░░░░   50% 2GiB/4GiB  102.400MiB/s  20s left
        10.20.0.12  ░░░░░░░░░░░░░░░░░░░░░░░░     -
        total       ████████████░░░░░░░░░░░░   50% 2GiB/4GiB  102.400MiB/s  20s left
        ");
    }

    #[test]
    fn rates_follow_the_last_half_minute_and_survive_a_restart() {
        let mut meter = Meter::default();
        assert_eq!(meter.rate(), 0);
        for second in 0..=60 {
            meter.push(at(second), 1000 * u64::try_from(second).expect("positive"));
        }
        assert_eq!(meter.rate(), 1000);
        for second in 61..=90 {
            meter.push(at(second), 60_000);
        }
        assert_eq!(meter.rate(), 0);
        meter.push(at(91), 10);
        meter.push(at(92), 30);
        assert_eq!(meter.rate(), 20);
    }

    #[test]
    fn narrow_and_plain_terminals() {
        let view = View { utf8: false, width: Some(30), ..View::plain() };
        let text = Watch::default().backup("backup/nightly", &answer(0), &Filter::default(), at(10), &view);
        insta::assert_snapshot!(text, @"
        backup/nightly: RUNNING (uploa
        10.20.0.11  ######............
        10.20.0.12  ..................
        total       ######............
        ");
    }

    #[test]
    fn finished_hosts_give_way() {
        let mut many = answer(0);
        let progress = many.progress.as_mut().expect("set");
        progress.hosts = (0..30)
            .map(|n| {
                let size = if n < 15 { 0 } else { 10 };
                let numbers = ProgressNumbers { size, ..ProgressNumbers::default() };
                HostProgress { host: format!("h{n:02}"), numbers, keyspaces: Vec::new() }
            })
            .collect();
        let shown: Vec<&str> = chosen(many.progress.as_ref().expect("set"), &Filter::default())
            .iter()
            .map(|h| h.host.as_str())
            .collect();
        assert_eq!((shown.len(), shown[0], shown[15]), (MAX_HOSTS, "h15", "h00"));
    }

    #[test]
    fn a_validation_is_counted() {
        let RunProgress { run, .. } = answer(0);
        let host = ValidateHostProgress { scanned_files: 9, orphaned_files: 2, ..Default::default() };
        let answer = RunProgress { run, progress: Some(vec![host.clone(), host]) };
        insta::assert_snapshot!(validate("validate_backup/weekly", &answer, at(61), &View::plain()), @"
        validate_backup/weekly: RUNNING, 1m1s
        scanned 18 files, missing 0, orphaned 4
        ");
    }
}
