//! `job/*`: long polls on jobs, stop, files (spec agent.md 2.6.4 to 2.6.6, 4a).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use common::api::zero_time;
use serde_json::{Map, Value, json};

use super::{CallError, Params, Rclone, Work, empty, to_json, work};
use crate::jobs::{Counters, InFlight, JobContext, JobInfo, JobNotFound};

impl Rclone {
    pub(super) fn job_progress(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let (id, wait) = (params.natural("jobid")?, wait(params)?);
        let this = self.clone();
        Ok(work(move |_| async move { to_json(&this.jobs.progress(id, wait).await?) }))
    }

    /// Without a job, or with one that is no number, the sums of the process.
    pub(super) fn job_info(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let id = params.natural("jobid").ok().filter(|id| *id > 0);
        let (this, wait) = (self.clone(), wait(params)?);
        Ok(work(move |_| async move {
            let Some(id) = id else { return Ok(this.global_info()) };
            match this.jobs.info(id, wait).await {
                Ok(info) => Ok(job_info(&info)),
                Err(JobNotFound) if !wait.is_zero() => {
                    Ok(json!({"job": null, "stats": null, "transferred": null}))
                }
                Err(error) => Err(error.into()),
            }
        }))
    }

    fn global_info(&self) -> Value {
        let running = self.jobs.running();
        let flying: Vec<InFlight> = running.iter().flat_map(JobContext::in_flight).collect();
        let totals = &self.jobs.totals().counters;
        let bytes = totals.uploaded.load(Ordering::Relaxed) + moved(&flying);
        let stats = stats(totals, bytes, &flying, "", "", None);
        json!({"job": null, "stats": stats, "transferred": []})
    }

    pub(super) fn job_stop(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let (this, id) = (self.clone(), params.natural("jobid")?);
        Ok(work(move |_| async move {
            this.jobs.stop(id)?;
            Ok(empty())
        }))
    }

    pub(super) fn job_files(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let (this, id, offset) = (self.clone(), params.natural("jobid")?, params.natural("offset")?);
        Ok(work(move |_| async move { to_json(&this.jobs.files(id, offset)?) }))
    }
}

fn wait(params: &Params) -> Result<Duration, CallError> {
    Ok(Duration::from_secs(params.natural("wait")?))
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn moved(flying: &[InFlight]) -> u64 {
    flying.iter().map(|f| f.meter.get().min(f.size)).sum()
}

fn seconds(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).to_std().unwrap_or_default().as_secs_f64()
}

fn job_info(info: &JobInfo) -> Value {
    let now = info.context.now();
    let duration = seconds(info.started, info.ended.unwrap_or(now));
    let flying = info.context.in_flight();
    let error = info.context.last_error();
    let stats = stats(
        info.context.counters(),
        info.context.uploaded(),
        &flying,
        &info.group,
        &error,
        Some((duration, now)),
    );
    let transferred: Vec<Value> = info.context.recent().iter().map(|f| finished(f, &info.group)).collect();
    json!({
        "job": {
            "id": info.id,
            "group": info.group,
            "startTime": time(info.started),
            "endTime": info.ended.map_or(zero_time::ZERO.to_owned(), time),
            "error": info.error,
            "finished": info.ended.is_some(),
            "success": info.ended.is_some() && info.error.is_empty(),
            "duration": duration,
            "output": info.output,
        },
        "stats": stats,
        "transferred": transferred,
    })
}

fn finished(item: &crate::jobs::Finished, group: &str) -> Value {
    json!({
        "error": item.error,
        "name": item.name,
        "size": item.size,
        "bytes": item.bytes,
        "checked": item.checked,
        "started_at": time(item.started),
        "completed_at": time(item.completed),
        "group": group,
    })
}

/// `run` is how long the job has run, and until when.
fn stats(
    counters: &Counters,
    bytes: u64,
    flying: &[InFlight],
    group: &str,
    last_error: &str,
    run: Option<(f64, DateTime<Utc>)>,
) -> Value {
    let (elapsed, now) = run.map_or((0.0, None), |(elapsed, now)| (elapsed, Some(now)));
    let speed = if elapsed > 0.0 { bytes as f64 / elapsed } else { 0.0 };
    let load = |n: &std::sync::atomic::AtomicU64| Value::from(n.load(Ordering::Relaxed));
    let mut stats = Map::from_iter([
        ("speed".to_owned(), speed.into()),
        ("bytes".to_owned(), bytes.into()),
        ("errors".to_owned(), load(&counters.errors)),
        ("fatalError".to_owned(), false.into()),
        ("retryError".to_owned(), (counters.errors.load(Ordering::Relaxed) > 0).into()),
        ("checks".to_owned(), load(&counters.checked_files)),
        ("transfers".to_owned(), load(&counters.transferred_files)),
        ("deletes".to_owned(), load(&counters.deleted_files)),
        ("deletedDirs".to_owned(), load(&counters.deleted_dirs)),
        ("renames".to_owned(), load(&counters.renamed_files)),
        ("transferTime".to_owned(), elapsed.into()),
        ("elapsedTime".to_owned(), elapsed.into()),
    ]);
    if !last_error.is_empty() {
        stats.insert("lastError".to_owned(), last_error.into());
    }
    if !flying.is_empty() {
        let items: Vec<Value> = flying.iter().map(|f| in_flight(f, group, now)).collect();
        stats.insert("transferring".to_owned(), items.into());
    }
    stats.into()
}

fn in_flight(file: &InFlight, group: &str, now: Option<DateTime<Utc>>) -> Value {
    let bytes = file.meter.get().min(file.size);
    let elapsed = now.map_or(0.0, |now| seconds(file.started, now));
    let speed = if elapsed > 0.0 { bytes as f64 / elapsed } else { 0.0 };
    let eta = (speed > 0.0).then(|| ((file.size - bytes) as f64 / speed).ceil() as u64);
    json!({
        "name": file.name,
        "group": group,
        "size": file.size,
        "bytes": bytes,
        "percentage": (100 * bytes).checked_div(file.size).unwrap_or(0),
        "speed": speed,
        "speedAvg": speed,
        "eta": eta,
    })
}
