//! `progress --watch` on a terminal, and `start --wait`.

use std::io;
use std::sync::{Arc, Mutex};

use indicatif::{ProgressDrawTarget, TermLike};
use serde_json::{Value, json};

use super::fake::{Fake, Reply};
use super::{RUN, TASK, run, task};
use crate::env::Terminal;

const NEXT: &str = "0f6b8c1a-5d20-11f1-9a3e-02420a000999";

/// A terminal that keeps everything that was ever written to it.
#[derive(Debug, Clone, Default)]
struct Screen(Arc<Mutex<String>>);

impl TermLike for Screen {
    fn width(&self) -> u16 {
        100
    }
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(&format!("{text}\n"))
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.lock().expect("not poisoned").push_str(text);
        Ok(())
    }
    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn answer(id: &str, status: &str, uploaded: u64) -> Value {
    let numbers = json!({ "size": 4096, "uploaded": uploaded, "skipped": 0, "failed": 0 });
    let mut host = numbers.clone();
    host["host"] = json!("10.20.0.11");
    host["keyspaces"] = json!([]);
    let mut progress = numbers;
    progress["stage"] = json!("UPLOAD");
    progress["hosts"] = json!([host]);
    json!({ "run": run(id, status), "progress": progress })
}

fn path(rest: &str) -> String {
    format!("/cluster/prod/task/backup/{TASK}{rest}")
}

fn manager() -> Fake {
    Fake::new()
        .on(&format!("GET {}", path("")), task("nightly"))
        .on(&format!("PUT {}", path("/start")), Reply::empty())
}

fn on_terminal(mut fake: Fake) -> (Fake, Screen) {
    let screen = Screen::default();
    let target = screen.clone();
    fake.terminal = Terminal { is_terminal: true, width: Some(100) };
    fake.draw = Arc::new(move || ProgressDrawTarget::term_like(Box::new(target.clone())));
    (fake, screen)
}

#[tokio::test(start_paused = true)]
async fn watch_draws_the_run_until_it_is_over() {
    let fake = manager()
        .on(&format!("GET {}", path("/latest")), answer(RUN, "RUNNING", 0))
        .on(&format!("GET {}", path(&format!("/{RUN}"))), answer(RUN, "RUNNING", 1024))
        .on(&format!("GET {}", path(&format!("/{RUN}"))), answer(RUN, "DONE", 4096));
    let (fake, screen) = on_terminal(fake);
    let transcript = fake.run(&format!("progress -c prod backup/{TASK} --watch")).await;
    assert_eq!((transcript.code, transcript.err.as_str()), (0, ""));
    assert!(transcript.out.contains("Status:\t\tDONE\n"), "{}", transcript.out);
    let drawn = screen.0.lock().expect("not poisoned").clone();
    assert!(drawn.contains("backup/nightly: RUNNING (uploading data)"), "{drawn}");
    assert!(drawn.contains("25% 1KiB/4KiB  1KiB/s  3s left"), "{drawn}");
}

#[tokio::test(start_paused = true)]
async fn watch_fails_with_the_run_and_survives_a_restart_of_the_manager() {
    let fake = manager()
        .on(&format!("GET {}", path("/latest")), answer(RUN, "RUNNING", 0))
        .on(&format!("GET {}", path(&format!("/{RUN}"))), Reply::unreachable())
        .on(&format!("GET {}", path(&format!("/{RUN}"))), Reply::unreachable())
        .on(&format!("GET {}", path(&format!("/{RUN}"))), answer(RUN, "ABORTED", 0));
    let (fake, _) = on_terminal(fake);
    let transcript = fake.run(&format!("progress -c prod backup/{TASK} --watch")).await;
    assert_eq!((transcript.code, transcript.err.as_str()), (1, ""));
    assert!(transcript.out.contains("Status:\t\tABORTED (uploading data)\n"), "{}", transcript.out);
}

#[tokio::test(start_paused = true)]
async fn watch_ends_with_an_error_of_the_server() {
    let fake =
        manager().on(&format!("GET {}", path("/latest")), Reply::error(404, "get resource: run: not found"));
    let (fake, _) = on_terminal(fake);
    insta::assert_snapshot!(fake.run(&format!("progress -c prod backup/{TASK} --watch")).await.err, @"
    Error: get resource: run: not found
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)
    ");
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_the_manager_stays_away() {
    let fake = manager()
        .on(&format!("GET {}", path("/latest")), answer(RUN, "DONE", 0))
        .on(&format!("GET {}", path("/latest")), Reply::unreachable());
    let transcript = fake.run(&format!("start -c prod backup/{TASK} --wait")).await;
    assert_eq!(transcript.code, 1);
    assert_eq!(transcript.requests.matches("(no answer)").count(), 30);
    assert!(transcript.err.contains("is scylla-manager running there?"), "{}", transcript.err);
}

#[tokio::test(start_paused = true)]
async fn start_waits_for_a_run_after_the_last_one() {
    let fake = manager()
        .on(&format!("GET {}", path("/latest")), answer(RUN, "DONE", 0))
        .on(&format!("GET {}", path("/latest")), answer(RUN, "DONE", 0))
        .on(&format!("GET {}", path("/latest")), answer(NEXT, "RUNNING", 0))
        .on(&format!("GET {}", path("/latest")), answer(NEXT, "DONE", 0));
    insta::assert_snapshot!(fake.transcript(&format!("start -c prod backup/{TASK} --wait")).await, @"
    GET /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162/latest
    PUT /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162/start?continue=true
    GET /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162/latest
    GET /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162/latest
    GET /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162/latest
    --- stderr
    backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162: run 0f6b8c1a-5d20-11f1-9a3e-02420a000999 DONE after 9m30s
    --- exit 0
    ");
}
