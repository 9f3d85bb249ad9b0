//! The agent beside a database: on CPUs of its own, with disk I/O of the idle class. Both are read back from the kernel,
//! for every thread.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path as UrlPath;
use axum::routing::get;
use common::http_client::Transport;
use http::{Method, Request};
use scylla_manager_agent::agent::{Agent, Environment};
use scylla_manager_agent::cloud::MetadataEndpoints;
use scylla_manager_agent::config::{Config, Secret};
use scylla_manager_agent::upstream::Upstream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Nothing here takes as long on any machine.
const LIMIT: Duration = Duration::from_secs(60);

/// What the agent asks a node at start.
fn scylla(listen: &str, data: &Path) -> Router {
    let (listen, data) = (listen.to_owned(), data.to_owned());
    let value = move |UrlPath(name): UrlPath<String>| async move {
        match name.as_str() {
            "data_file_directories" => serde_json::json!([data]).to_string(),
            "prometheus_port" => "9180".to_owned(),
            "listen_address" => serde_json::json!(listen).to_string(),
            _ => "\"\"".to_owned(),
        }
    };
    Router::new().route("/v2/config/{name}", get(value))
}

/// `Cpus_allowed_list` of each thread, with the thread's name.
fn allowed_cpus(process: &str) -> Vec<(String, BTreeSet<usize>)> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let status = |task: std::io::Result<std::fs::DirEntry>| {
        // A thread may end while it is looked at.
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).ok()?;
        let field =
            |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
        Some((field("Name:")?, cpu_list(&field("Cpus_allowed_list:")?)))
    };
    tasks.filter_map(status).collect()
}

/// `0,2-4` as a set.
fn cpu_list(text: &str) -> BTreeSet<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<usize>().unwrap()..=last.parse::<usize>().unwrap()
    };
    text.split(',').flat_map(range).collect()
}

fn own_cpus() -> BTreeSet<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Sends a request to an agent; answers its body.
async fn call(agent: &Agent, method: Method, path: &str) -> String {
    let request = Request::builder().method(method).uri(path).header("authorization", "Bearer t");
    let answer = agent.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

/// One test, because affinity belongs to the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_keeps_off_the_cpus_of_the_database() {
    let all = own_cpus();
    let (Some(first), true) = (all.first().copied(), all.len() > 1) else {
        return eprintln!("skipped: with a single CPU there is none to keep off");
    };
    let rest: BTreeSet<usize> = all.iter().copied().filter(|cpu| *cpu != first).collect();
    let dir = tempfile::tempdir().unwrap();
    let cpuset = dir.path().join("cpuset.conf");
    std::fs::write(&cpuset, format!("# by scylla_setup\nCPUSET=\"--cpuset {first} --smp 1\"\n")).unwrap();
    let node = scylla("127.0.0.1", dir.path());
    let environment = Environment {
        upstream: Some(Upstream::InProcess(Arc::new(move |_| Some(node.clone())))),
        metadata: MetadataEndpoints::default(),
        metadata_transport: Some(Transport::InProcess(Arc::new(|_| None))),
        cpuset_file: cpuset,
        ..Environment::default()
    };
    let mut config = Config { auth_token: Secret::new("t"), ..Config::default() };
    config.s3.region = Some("eu-west-1".into());
    let agent = Box::pin(Agent::start(config, environment, CancellationToken::new())).await.unwrap();

    let everywhere = |expected: &BTreeSet<usize>, when: &str| {
        for (thread, cpus) in allowed_cpus("self") {
            assert_eq!(&cpus, expected, "thread {thread} {when}");
        }
    };
    everywhere(&rest, "after the start");
    // Threads that start later are where their parents are.
    let later = tokio::task::spawn_blocking(own_cpus).await.unwrap();
    assert_eq!(later, rest);
    let told: serde_json::Value =
        serde_json::from_str(&call(&agent, Method::GET, "/agent/pin_cpu").await).unwrap();
    let told: BTreeSet<usize> = serde_json::from_value(told["cpu"].clone()).unwrap();
    assert_eq!(told, rest);
    assert_eq!(call(&agent, Method::DELETE, "/agent/pin_cpu").await, "");
    everywhere(&all, "after un-pinning");
    assert_eq!(call(&agent, Method::POST, "/agent/pin_cpu").await, "");
    everywhere(&rest, "after pinning again");
}

/// A loopback address that no other test process has.
fn own_address() -> String {
    let pid = std::process::id();
    format!("127.{}.{}.{}", 100 + (pid >> 16) % 100, (pid >> 8) & 0xff, 1 + pid % 250)
}

async fn wait_for(url: &str) {
    common::tls::install_provider();
    let client = reqwest::Client::builder().no_proxy().danger_accept_invalid_certs(true).build().unwrap();
    // Only an answer says that another process listens.
    let answered = async {
        while !client.get(url).send().await.is_ok_and(|answer| answer.status() == 204) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, answered).await.expect("the daemon must answer");
}

#[tokio::test]
async fn every_thread_of_the_daemon_is_pinned_and_its_disk_io_is_idle() {
    let cpu = own_cpus().pop_last().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let address = own_address();
    let listener = tokio::net::TcpListener::bind((address.as_str(), 10000)).await.unwrap();
    let api: SocketAddr = listener.local_addr().unwrap();
    let node = scylla(&address, &dir.path().join("data"));
    let mut servers = tokio::task::JoinSet::new();
    servers.spawn(async move { axum_serve(listener, node).await });
    let yaml = dir.path().join("agent.yaml");
    let config = serde_json::json!({
        "auth_token": "t", "prometheus": "", "debug": "", "cpu": cpu, "s3": {"region": "eu-west-1"},
        "scylla": {"api_address": address, "api_port": api.port().to_string()},
    });
    std::fs::write(&yaml, config.to_string()).unwrap();
    let mut daemon = tokio::process::Command::new(env!("CARGO_BIN_EXE_scylla-manager-agent"))
        .args(["-c", yaml.to_str().unwrap()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    wait_for(&format!("https://{address}:10001/ping")).await;

    let pid = daemon.id().expect("the daemon runs").to_string();
    let threads = allowed_cpus(&pid);
    assert!(threads.len() > 1, "{threads:?}");
    for (thread, cpus) in threads {
        assert_eq!(cpus, BTreeSet::from([cpu]), "thread {thread}");
    }
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let thread = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let priority = ioprio::get_priority(ioprio::Target::Process(ioprio::Pid::from_raw(thread))).unwrap();
        assert_eq!(priority.class(), Some(ioprio::Class::Idle), "thread {thread}");
    }
    let terminate = rustix::process::Signal::TERM;
    let process = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(process, terminate).unwrap();
    let ended = tokio::time::timeout(LIMIT, daemon.wait()).await.expect("the daemon must end");
    assert!(ended.unwrap().success());
}

async fn axum_serve(listener: tokio::net::TcpListener, router: Router) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let router = router.clone();
        let service = hyper_util::service::TowerToHyperService::new(
            router.map_request(|r: http::Request<hyper::body::Incoming>| r.map(Body::new)),
        );
        connections.spawn(async move {
            let io = hyper_util::rt::TokioIo::new(stream);
            // A client that leaves is no failure of the server.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        });
    }
}
