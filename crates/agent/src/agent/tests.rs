//! Start-up, and the daemon on real sockets: TLS, HTTP/1.1, graceful stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use common::error::chain;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::config::Secret;
use crate::testing::{Node, TOKEN, call, is_empty};

/// Nothing here takes as long on any machine.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_keeps_the_agent_from_starting_is_named() {
    let node = Node::new();
    let file = node.path("file");
    std::fs::write(&file, "").unwrap();
    let start = async |change: &dyn Fn(&mut Config)| {
        let mut config = node.config();
        change(&mut config);
        node.start(config).await.map(drop).map_err(|e| chain(&e))
    };
    start(&|_| {}).await.unwrap();
    for (change, words) in [
        (
            &(|c: &mut Config| c.auth_token = Secret::default()) as &dyn Fn(&mut Config),
            "must specify auth-token",
        ),
        (&|c| c.localstorage = Some(node.path("missing")), "localstorage.path"),
        (&|c| c.localstorage = Some(file.clone()), "localstorage.path"),
    ] {
        let error = start(change).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    for (name, value, words) in [
        ("listen_address", None, "No such config entry: listen_address"),
        ("prometheus_port", Some(json!([])), "/v2/config/prometheus_port"),
        ("data_file_directories", Some(json!([])), "list of data directories is empty"),
        ("data_file_directories", Some(json!([node.path("missing")])), "Scylla's data directory"),
    ] {
        let before = node.values.lock().unwrap()[name].clone();
        node.set(name, value);
        let error = start(&|_| {}).await.unwrap_err();
        node.set(name, before);
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait_for_scylla() {
    let stop = CancellationToken::new();
    let config = Config {
        auth_token: Secret::new(TOKEN),
        scylla: crate::config::ScyllaConfig { api_port: "1".into(), ..Default::default() },
        ..Config::default()
    };
    let stopped = async {
        // By the paused clock: when nothing but the stop is left to wait for.
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.cancel();
    };
    let (outcome, ()) = tokio::join!(until(&stop, std::future::pending::<()>()), stopped);
    assert!(outcome.is_none());
    run(config, stop).await.unwrap();
}

#[tokio::test]
async fn the_region_comes_from_the_machine_unless_it_is_configured() {
    let node = Node::new();
    let mut config = node.config();
    config.s3.region = None;
    let agent = node.start(config).await.unwrap();
    assert_eq!(agent.state().config.s3.effective_region(), "us-east-1");
    assert_eq!(agent.state().config.https.as_ref().unwrap().to_string(), "10.0.0.1:10001");
}

/// An agent that serves on ports of the system's choice.
struct Daemon {
    agent: Agent,
    api: SocketAddr,
    metrics: SocketAddr,
    debug: SocketAddr,
    client: reqwest::Client,
    tasks: JoinSet<Result<(), StartupError>>,
}

impl Daemon {
    async fn start(node: &Node) -> Self {
        let local = || Some("127.0.0.1:0".parse().unwrap());
        let config = Config {
            https: local(),
            prometheus: local(),
            debug: local(),
            localstorage: Some(node.path("backups")),
            ..node.config()
        };
        let agent = node.start(config).await.unwrap();
        let servers = agent.bind().await.unwrap();
        let addresses: Vec<_> = servers.iter().map(|s| s.local_addr().unwrap()).collect();
        let mut tasks = JoinSet::new();
        let served = agent.clone();
        tasks.spawn(async move { served.serve_on(servers).await });
        common::tls::install_provider();
        let client = reqwest::Client::builder().no_proxy().danger_accept_invalid_certs(true).timeout(LIMIT);
        let client = client.build().unwrap();
        Self { agent, api: addresses[0], metrics: addresses[1], debug: addresses[2], client, tasks }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("https://{}{path}", self.api)).bearer_auth(TOKEN)
    }

    async fn engine(&self, call: &str, params: Value) -> Value {
        let request = self.request(Method::POST, &format!("/agent/rclone/{call}"));
        let request = request.header("content-type", "application/json").body(params.to_string());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{call}");
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    async fn ended(&mut self) {
        let ended = tokio::time::timeout(LIMIT, self.tasks.join_next()).await.unwrap();
        ended.unwrap().unwrap().unwrap();
    }
}

fn node_with_backups() -> Node {
    let node = Node::new();
    std::fs::create_dir(node.path("backups")).unwrap();
    node
}

#[tokio::test]
async fn three_servers_speak_http_1_1() {
    let node = node_with_backups();
    let mut daemon = Daemon::start(&node).await;
    let version = daemon.request(Method::GET, "/version").send().await.unwrap();
    assert_eq!((version.status().as_u16(), version.version()), (200, http::Version::HTTP_11));
    let seen = daemon.request(Method::GET, "/x").send().await.unwrap().text().await.unwrap();
    assert!(seen.contains(r#""x-forwarded-for":"127.0.0.1""#) && !seen.contains(TOKEN), "{seen}");
    let plain = async |address: SocketAddr, path: &str| {
        let answer = daemon.client.get(format!("http://{address}{path}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = plain(daemon.metrics, "/any/path").await;
    assert!(status == 200 && text.contains("scylla_manager_agent_rclone_speed"), "{text}");
    let (status, text) = plain(daemon.debug, "/debug/pprof/").await;
    assert!(status == 200 && text.contains("VmRSS"), "{text}");
    assert_eq!(plain(daemon.debug, "/debug/pprof/profile").await.0, 501);
    // Plain HTTP on the TLS port is no request.
    assert!(daemon.client.get(format!("http://{}/ping", daemon.api)).send().await.is_err());
    daemon.agent.state().stop.cancel();
    daemon.ended().await;
    assert!(daemon.request(Method::GET, "/ping").send().await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_ends_jobs() {
    let mut node = node_with_backups();
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let gates = (arrived.clone(), release.clone());
    node.rest = Router::new().fallback(move || {
        let (arrived, release) = gates.clone();
        async move {
            arrived.notify_one();
            release.notified().await;
            "done"
        }
    });
    let source = node.path("data/ks/t/snapshots/s");
    std::fs::create_dir_all(&source).unwrap();
    std::fs::write(source.join("me-1-big-Data.db"), vec![7; 1 << 20]).unwrap();
    let mut daemon = Daemon::start(&node).await;
    daemon.engine("core/bwlimit", json!({"rate": "1b"})).await;
    let dirs = json!({"srcFs": "data:ks", "srcRemote": "t/snapshots/s", "dstFs": "localstorage:b", "dstRemote": "d"});
    let job = daemon.engine("sync/movedir?_async=true", dirs).await["jobid"].as_u64().unwrap();
    let poll = daemon.engine("job/progress", json!({"jobid": job, "wait": 1000}));
    let slow = daemon.request(Method::GET, "/slow").send();
    let stop = async {
        arrived.notified().await;
        daemon.agent.state().stop.cancel();
        release.notify_one();
    };
    let (progress, slow, ()) =
        tokio::time::timeout(LIMIT, async { tokio::join!(poll, slow, stop) }).await.unwrap();
    assert_eq!(slow.unwrap().text().await.unwrap(), "done");
    assert_eq!((&progress["status"], &progress["error"]), (&json!("error"), &json!("context canceled")));
    daemon.ended().await;
    assert!(source.join("me-1-big-Data.db").exists(), "what was not moved stays");
    assert!(is_empty(&node.path("backups/b/d")), "no part of a file is left");
}

#[tokio::test]
async fn a_server_that_fails_ends_the_agent_with_an_error() {
    let node = node_with_backups();
    let config = Config {
        https: Some("127.0.0.1:0".parse().unwrap()),
        prometheus: Some("127.0.0.1:0".parse().unwrap()),
        debug: None,
        ..node.config()
    };
    let agent = node.start(config).await.unwrap();
    let servers = agent.bind().await.unwrap();
    // From now on accept(2) answers EINVAL.
    rustix::net::shutdown(&servers[1], rustix::net::Shutdown::Both).unwrap();
    let outcome = tokio::time::timeout(LIMIT, agent.serve_on(servers)).await.unwrap();
    let error = chain(&outcome.unwrap_err());
    assert!(
        error.contains("no more connections can be accepted on the address set by `prometheus`"),
        "{error}"
    );
    assert!(agent.state().stop.is_cancelled());
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request_at_scylla() {
    /// Tells when the request's future is dropped.
    struct Gone(Arc<Notify>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let mut node = node_with_backups();
    let (arrived, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (arrived.clone(), gone.clone());
    node.rest = Router::new().fallback(move || {
        let (arrived, gone) = (signals.0.clone(), Gone(signals.1.clone()));
        async move {
            arrived.notify_one();
            std::future::pending::<()>().await;
            drop(gone);
        }
    });
    let mut daemon = Daemon::start(&node).await;
    let request = daemon.request(Method::POST, "/storage_service/sstables/ks").send();
    tokio::select! {
        _ = request => panic!("nobody answers"),
        () = arrived.notified() => {}
    }
    tokio::time::timeout(LIMIT, gone.notified())
        .await
        .expect("the request to Scylla must end with the client's");
    daemon.agent.state().stop.cancel();
    daemon.ended().await;
}

#[tokio::test]
async fn an_address_that_is_taken_names_the_key() {
    let node = Node::new();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let local = || Some("127.0.0.1:0".parse().unwrap());
    let config = Config {
        https: local(),
        prometheus: Some(address.to_string().parse().unwrap()),
        debug: None,
        ..node.config()
    };
    let agent = node.start(config).await.unwrap();
    let error = chain(&agent.serve().await.unwrap_err());
    assert!(error.contains("`prometheus`") && error.contains(&address.to_string()), "{error}");
    assert_eq!(call(&agent, Method::GET, "/ping").await.status, 204);
}
