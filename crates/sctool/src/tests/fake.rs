//! A manager made of prepared answers, and a transcript of what a command line asked it and printed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use common::http_client::Transport;
use indicatif::ProgressDrawTarget;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::env::{Env, LocalZone, Terminal};
use crate::run;

/// Largest request body that a test sends.
const BODY_LIMIT: usize = 1 << 20;

/// Status that stands for no answer.
const UNREACHABLE: u16 = 0;

/// An answer of the manager.
#[derive(Clone)]
pub struct Reply {
    status: u16,
    location: Option<String>,
    body: String,
    delay: Duration,
}

impl Reply {
    fn of(status: u16, body: String) -> Self {
        Self { status, location: None, body, delay: Duration::ZERO }
    }

    /// 201 with the path of what was created.
    pub fn created(location: &str) -> Self {
        Self { location: Some(location.to_owned()), ..Self::of(201, String::new()) }
    }

    /// 200 without a body.
    pub fn empty() -> Self {
        Self::of(200, String::new())
    }

    pub fn error(status: u16, message: &str) -> Self {
        let body = json!({ "message": message, "details": "", "trace_id": "Xk3Yt0aQS2ybTz8m4mW1eA" });
        Self::of(status, body.to_string())
    }

    /// No answer at all: the manager is down at that request.
    pub fn unreachable() -> Self {
        Self::of(UNREACHABLE, String::new())
    }

    /// Answers after `delay` only.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

impl From<Value> for Reply {
    fn from(body: Value) -> Self {
        Self::of(200, body.to_string())
    }
}

/// The manager and the surroundings of the command.
pub struct Fake {
    replies: HashMap<String, VecDeque<Reply>>,
    pub vars: BTreeMap<String, String>,
    pub terminal: Terminal,
    pub draw: Arc<dyn Fn() -> ProgressDrawTarget + Send + Sync>,
}

/// What came of a command line.
pub struct Transcript {
    pub requests: String,
    pub out: String,
    pub err: String,
    pub code: u8,
}

impl Transcript {
    /// Everything in one text, empty parts left out.
    pub fn text(&self) -> String {
        let mut text = self.requests.clone();
        for (title, part) in [("stdout", &self.out), ("stderr", &self.err)] {
            if !part.is_empty() {
                write!(text, "--- {title}\n{part}").expect("memory");
            }
        }
        write!(text, "--- exit {}", self.code).expect("memory");
        text
    }
}

impl Fake {
    pub fn new() -> Self {
        Self {
            replies: HashMap::new(),
            vars: BTreeMap::from([("LANG".to_owned(), "en_US.UTF-8".to_owned())]),
            terminal: Terminal::default(),
            draw: Arc::new(ProgressDrawTarget::hidden),
        }
    }

    /// Answers `request`, such as `GET /clusters`, with `reply`; a second reply is for the second request, and the
    /// last one for all that follow.
    pub fn on(mut self, request: &str, reply: impl Into<Reply>) -> Self {
        self.replies.entry(request.to_owned()).or_default().push_back(reply.into());
        self
    }

    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Runs a command line, words split at blanks outside of single quotes.
    pub async fn run(&self, line: &str) -> Transcript {
        let state = Arc::new(Mutex::new(State { replies: self.replies.clone(), seen: String::new() }));
        let router = router(Arc::clone(&state));
        let asked = Arc::clone(&state);
        let env = self.env(Transport::InProcess(Arc::new(move |uri| {
            let is_up = asked.lock().expect("not poisoned").is_up(uri.path());
            is_up.then(|| router.clone())
        })));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let words = shlex::split(line).unwrap_or_else(|| panic!("an open quote: {line}"));
        let exit = Box::pin(run(&words, &env, &mut out, &mut err)).await;
        let requests = state.lock().expect("not poisoned").seen.clone();
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Transcript { requests, out: text(out), err: text(err), code: exit.code() }
    }

    /// [`Fake::run`], as one text.
    pub async fn transcript(&self, line: &str) -> String {
        self.run(line).await.text()
    }

    fn env(&self, transport: Transport) -> Env {
        let began = tokio::time::Instant::now();
        let noon: DateTime<Utc> = "2026-03-02T12:00:00Z".parse().expect("valid");
        Env {
            vars: self.vars.clone(),
            now: Arc::new(move || noon + began.elapsed()),
            zone: LocalZone { tz: Tz::UTC, name: "UTC".to_owned() },
            terminal: self.terminal,
            transport: Some(transport),
            manager_config: PathBuf::from("/no/such/file"),
            draw: Arc::clone(&self.draw),
        }
    }
}

/// Runs a command line that must fail before any request, and answers its message.
pub async fn refused(line: &str) -> String {
    let transcript = Fake::new().run(line).await;
    assert_eq!((transcript.requests.as_str(), transcript.code), ("", 1), "{line}");
    let message = transcript.err.strip_suffix("\n\n").expect("an empty line at the end");
    message.strip_prefix("Error: ").unwrap_or(message).to_owned()
}

/// What the fake manager still has to say, and what it was asked.
struct State {
    replies: HashMap<String, VecDeque<Reply>>,
    seen: String,
}

impl State {
    /// False if the next answer to a `GET` of that path is none; uses it up.
    fn is_up(&mut self, path: &str) -> bool {
        let key = format!("GET {}", path.strip_prefix("/api/v1").expect("the base path"));
        let Some(replies) = self.replies.get_mut(&key).filter(|replies| replies[0].status == UNREACHABLE)
        else {
            return true;
        };
        if replies.len() > 1 {
            replies.pop_front();
        }
        self.seen.push_str(&format!("{key} (no answer)\n"));
        false
    }

    fn next(&mut self, key: &str) -> Reply {
        let Some(replies) = self.replies.get_mut(key) else {
            return Reply::error(404, &format!("no answer prepared for {key}"));
        };
        match replies.len() {
            1 => replies[0].clone(),
            _ => replies.pop_front().expect("at least one"),
        }
    }
}

fn router(state: Arc<Mutex<State>>) -> Router {
    Router::new().fallback(move |request: Request<Body>| {
        let state = Arc::clone(&state);
        async move {
            let path = request.uri().path().strip_prefix("/api/v1").expect("the base path");
            let key = format!("{} {path}", request.method());
            let shown = shown(&key, request).await;
            let reply = {
                let mut state = state.lock().expect("not poisoned");
                state.seen.push_str(&shown);
                state.next(&key)
            };
            tokio::time::sleep(reply.delay).await;
            let mut response = Response::builder().status(reply.status);
            if let Some(location) = &reply.location {
                response = response.header("location", location);
            }
            response.body(Body::from(reply.body)).expect("a response")
        }
    })
}

/// A request for the transcript: method, path, query decoded, body indented.
async fn shown(key: &str, request: Request<Body>) -> String {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let query = percent_decode_str(&query).decode_utf8_lossy().into_owned();
    let body = to_bytes(request.into_body(), BODY_LIMIT).await.expect("a body");
    if body.is_empty() {
        return format!("{key}{query}\n");
    }
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    format!("{key}{query}\n{}\n", serde_json::to_string_pretty(&body).expect("JSON"))
}
