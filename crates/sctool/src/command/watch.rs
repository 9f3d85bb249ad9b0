//! `progress --watch`: draws a run on the terminal until it is over.

use chrono::{DateTime, Utc};
use common::api::manager::{GetRunProgress, RunProgress, TaskRun};
use common::task::{TaskStatus, TaskType};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::follow::{is_over, ticker, tolerate};
use super::progress::{Shown, typed};
use crate::context::Ctx;
use crate::error::CliError;
use crate::grammar::run_ref::RunRef;
use crate::grammar::task_ref::FoundTask;
use crate::render::View;
use crate::render::watch::{Watch, validate};

/// Refuses where nothing can be redrawn.
pub fn require_terminal(ctx: &Ctx<'_>) -> Result<(), CliError> {
    match ctx.env.terminal.is_terminal {
        true => Ok(()),
        false => Err(CliError::text(
            "--watch needs a terminal. In scripts use --wait with start or backup, or progress without --watch",
        )),
    }
}

/// Draws until the run is over, then prints what `progress` prints. An error unless the run is DONE.
pub async fn watch(
    ctx: &mut Ctx<'_>,
    cluster: &str,
    task: &FoundTask,
    run: RunRef,
    shown: &Shown,
) -> Result<(), CliError> {
    let screen = Screen::new((ctx.env.draw)());
    let followed = follow(ctx, cluster, task, run, shown, &screen).await;
    // Also before an error is printed.
    screen.clear();
    let answer = followed?;
    let status = answer.run.status;
    shown.print(ctx, task.task_type, answer)?;
    if status == TaskStatus::Done { Ok(()) } else { Err(CliError::RunNotDone) }
}

async fn follow(
    ctx: &mut Ctx<'_>,
    cluster: &str,
    task: &FoundTask,
    run: RunRef,
    shown: &Shown,
    screen: &Screen,
) -> Result<RunProgress<Value>, CliError> {
    let (id, mut run) = (task.id.to_string(), run.to_string());
    let mut ticks = ticker();
    let mut watch = Watch::default();
    let mut failures = 0;
    loop {
        ticks.tick().await;
        match ctx.call::<GetRunProgress>(&[cluster, task.task_type.as_str(), &id, &run], &()).await {
            Ok(answer) if is_over(answer.run.status) => return Ok(answer),
            Ok(answer) => {
                failures = 0;
                stay_with(&answer.run, &mut run);
                screen.draw(frame(&mut watch, task, answer, shown, ctx.now(), &ctx.view)?);
            }
            Err(error) => tolerate(&mut failures, error)?,
        }
    }
}

/// `latest` is the latest run of the first look: the view must not jump to the next run when this one is over.
fn stay_with(seen: &TaskRun, run: &mut String) {
    if !seen.id.is_nil() {
        *run = seen.id.to_string();
    }
}

fn frame(
    watch: &mut Watch,
    task: &FoundTask,
    answer: RunProgress<Value>,
    shown: &Shown,
    now: DateTime<Utc>,
    view: &View,
) -> Result<String, CliError> {
    let name = task.to_string();
    match task.task_type {
        TaskType::ValidateBackup => Ok(validate(&name, &typed(answer)?, now, view)),
        _ => Ok(watch.backup(&name, &typed(answer)?, &shown.filter, now, view)),
    }
}

/// The lines that are drawn over each other.
struct Screen(ProgressBar);

impl Screen {
    fn new(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        // The view draws its own bars, so that all lines of a look change together.
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    fn draw(&self, text: String) {
        self.0.set_message(text);
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}
