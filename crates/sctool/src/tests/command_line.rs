//! Errors of the command line, help, version, completion, environment (spec/sctool.md 1).

use serde_json::json;

use super::fake::{Fake, refused};

#[tokio::test]
async fn errors_are_in_the_words_of_the_original() {
    for (line, message) in [
        ("tasks --bogus", "unknown flag: --bogus"),
        ("tasks -T x", "unknown shorthand flag: 'T' in -T"),
        ("backup list -c prod --location", "flag needs an argument: --location"),
        ("backup list -c prod -L", "flag needs an argument: 'L' in -L"),
        ("info -c prod", "accepts 1 arg(s), received 0"),
        ("info -c prod backup extra", "accepts 1 arg(s), received 2"),
        ("backup extra -c prod -L s3:a", "unknown command \"extra\" for \"sctool backup\""),
        ("foo", "unknown command \"foo\" for \"sctool\""),
        ("cluster foo", "unknown command \"foo\" for \"sctool cluster\""),
        ("completion foo", "unknown command \"foo\" for \"sctool completion\""),
        ("start backup", "required flag(s) \"cluster\" not set"),
        ("tasks --api-cert-file x", "missing --api-key-file flag"),
        ("tasks --api-key-file x", "missing --api-cert-file flag"),
        ("cluster add", "required flag(s) \"host\" not set"),
        ("cluster add --host h --id 5", "invalid argument \"5\" for \"-i, --id\" flag: invalid UUID \"5\""),
        (
            "info -c prod backup --limit ten",
            "invalid argument \"ten\" for \"--limit\" flag: strconv.ParseInt: parsing \"ten\": invalid syntax",
        ),
        // Hints of our own come behind the text.
        ("backup -dc dc1 -c prod -L s3:a", "unknown shorthand flag: 'd' in -dc, did you mean --dc?"),
        ("backup -c prod --locaton s3:a", "unknown flag: --locaton, did you mean --location?"),
        ("taks", "unknown command \"taks\" for \"sctool\", did you mean tasks?"),
    ] {
        assert_eq!(refused(line).await, message, "{line}");
    }
}

#[tokio::test]
async fn repair_is_refused_with_a_reason() {
    for line in ["repair -c prod", "repair control -c prod --intensity 2", "repair tablet"] {
        let message = refused(line).await;
        assert!(message.starts_with("repair is not part of this program"), "{line}: {message}");
    }
}

#[tokio::test]
async fn a_client_certificate_that_cannot_be_read() {
    let message = refused("tasks --api-cert-file /no/such/file --api-key-file /no/such/file").await;
    assert!(message.starts_with("load client certificate: /no/such/file: "), "{message}");
}

#[tokio::test]
async fn the_cluster_comes_from_anywhere() {
    let fake = Fake::new().on("GET /cluster/prod/tasks", json!([]));
    for line in [
        "-c prod tasks",
        "tasks -c prod",
        "tasks -cprod",
        "tasks -c=prod",
        "tasks --cluster=prod",
        "--cluster prod tasks",
    ] {
        let transcript = fake.transcript(line).await;
        assert_eq!(transcript, "GET /cluster/prod/tasks?all=false\n--- exit 0", "{line}");
    }
    let fake = fake.var("SCYLLA_MANAGER_CLUSTER", "prod");
    assert_eq!(fake.transcript("tasks").await, "GET /cluster/prod/tasks?all=false\n--- exit 0");
    let fake = Fake::new().on("GET /cluster/my%20cluster%2F1/tasks", json!([]));
    assert_eq!(fake.run("tasks -c 'my cluster/1'").await.code, 0);
}

#[tokio::test]
async fn help_is_printed_for_groups_and_on_request() {
    let root = Fake::new().run("").await;
    assert_eq!((root.code, root.err.as_str()), (0, ""));
    assert!(root.out.starts_with(&format!("Scylla Manager {}.\n", common::version::VERSION)), "{}", root.out);
    for hidden in ["\n  task ", "\n  repair "] {
        assert!(!root.out.contains(hidden), "{}", root.out);
    }
    for line in ["help", "--help", "-h"] {
        assert_eq!(Fake::new().run(line).await.out, root.out, "{line}");
    }
    for line in ["cluster", "cluster --help", "help cluster"] {
        let text = Fake::new().run(line).await.out;
        assert!(text.contains("Usage:\n  sctool cluster [command]\n"), "{line}: {text}");
    }
    insta::assert_snapshot!(Fake::new().run("backup files --help").await.out, @"
    Lists the files of a backup, one per line: schema first, then path and keyspace/table of each SSTable file.

    Usage:
      sctool backup files --cluster <id|name> --snapshot-tag <tag> [flags]

    Examples:
      Paths of one table:
        sctool backup files -c prod-cluster -T sm_20260302023012UTC -K shop.orders
      Comma-separated, with the ID of each table:
        sctool backup files -c prod-cluster -T sm_20260302023012UTC --delimiter , --with-version

    Flags:
          --all-clusters       Look for the tag among the backups of other clusters too
      -c, --cluster name|id    The target cluster, by name or ID (default $SCYLLA_MANAGER_CLUSTER)
      -d, --delimiter text     Text between path and <keyspace>/<table> (default one tab)
      -h, --help               Print this text
      -K, --keyspace list      Comma-separated list of globs that select keyspaces and tables; ! in front
                               excludes, the last match decides, e.g. 'shop,!shop.carts' (quote them, the shell
                               knows * and !)
      -L, --location list      Comma-separated list of backup locations, [<dc>:]<provider>:<bucket>, e.g.
                               s3:my-backups or eu-dc:s3:eu-backups. With <dc> the location serves the nodes of
                               that datacenter only
      -o, --output format      How to print the result: table, for people, or json, one versioned document for
                               programs (default table)
      -T, --snapshot-tag tag   Tag of the backup, as 'backup list' shows it
          --with-version       Add -<table ID> to the table name

    Global Flags:
          --api-cert-file path   File with the client certificate for HTTPS, PEM (default
                                 $SCYLLA_MANAGER_API_CERT_FILE)
          --api-key-file path    File with the private key of the client certificate, PEM (default
                                 $SCYLLA_MANAGER_API_KEY_FILE)
          --api-url url          Base URL of the manager's REST API, with the path /api/v1
          --version              Print the version of this program
    ");
}

#[tokio::test]
async fn every_command_has_help() {
    fn paths(command: &clap::Command, path: &str, all: &mut Vec<String>) {
        for child in command.get_subcommands() {
            let path = format!("{path}{} ", child.get_name());
            paths(child, &path, all);
            all.push(path);
        }
    }
    let mut all = Vec::new();
    paths(&crate::cli::tree(), "", &mut all);
    for path in all.iter().filter(|path| !path.starts_with("repair")) {
        let transcript = Fake::new().run(&format!("{path}--help")).await;
        assert_eq!(transcript.code, 0, "{path}");
        let help = transcript.out;
        assert!(help.contains(&format!("Usage:\n  sctool {}", path.trim_end())), "{path}: {help}");
        assert!(help.contains("\nExamples:\n  "), "no example for {path}: {help}");
    }
}

/// What prints a result prints it as JSON too: a command without `-o` says nothing.
#[tokio::test]
async fn silent_commands_alone_have_no_output_flag() {
    fn without(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        for child in command.get_subcommands() {
            let path = format!("{path} {}", child.get_name());
            let runs = !child.is_subcommand_required_set();
            if runs && !child.get_opts().any(|arg| arg.get_long() == Some("output")) {
                found.push(path.trim_start().to_owned());
            }
            without(child, &path, found);
        }
    }
    let mut found = Vec::new();
    without(&crate::cli::tree(), "", &mut found);
    let silent = [
        "backup delete",
        "backup delete local-snapshot",
        "backup control",
        "cluster update",
        "cluster delete",
        "start",
        "stop",
        "resume",
        // Refused.
        "repair",
        "task start",
        "task stop",
        "task update",
        "task delete",
        // Scripts for a shell.
        "completion bash",
        "completion zsh",
        "completion fish",
    ];
    assert_eq!(found, silent);
}

#[tokio::test]
async fn versions() {
    let fake = Fake::new().on("GET /version", json!({ "version": "3.12.0" }));
    let client = common::version::VERSION;
    let transcript = fake.run("version").await;
    assert_eq!(transcript.out, format!("Client version: {client}\nServer version: 3.12.0\n"));
    assert_eq!(
        fake.transcript("--version").await,
        format!("--- stdout\nClient version: {client}\n--- exit 0")
    );
    let alone = Fake::new().run("version").await;
    assert_eq!((alone.out, alone.code), (format!("Client version: {client}\n"), 1));
}

#[tokio::test]
async fn completion_scripts_name_commands_and_flags() {
    for shell in ["bash", "fish", "zsh"] {
        let transcript = Fake::new().run(&format!("completion {shell}")).await;
        assert_eq!((transcript.code, transcript.requests.as_str()), (0, ""));
        for word in ["local-snapshot", "snapshot-tag", "retention-days"] {
            assert!(transcript.out.contains(word), "{shell} lacks {word}");
        }
    }
}

#[tokio::test]
async fn traffic_is_dumped_without_secrets() {
    let fake = Fake::new()
        .on("POST /clusters", super::fake::Reply::created(&format!("/api/v1/cluster/{}", super::CLUSTER)))
        .var("SCTOOL_DUMP_HTTP", "true");
    let err = fake.run("cluster add --host h --auth-token top-secret").await.err;
    assert!(err.starts_with("> POST http://127.0.0.1:5080/api/v1/clusters\n"), "{err}");
    assert!(!err.contains("top-secret"), "{err}");
}

#[tokio::test]
async fn no_manager_is_there() {
    let env = crate::env::Env { transport: None, vars: Default::default(), ..crate::env::Env::of_process() };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    // Port 1 of the loopback: nothing listens there.
    let args: Vec<String> = ["tasks", "--api-url", "http://127.0.0.1:1/api/v1"].map(str::to_owned).to_vec();
    let exit = Box::pin(crate::run(&args, &env, &mut out, &mut err)).await;
    assert_eq!(exit, crate::Exit::Failure);
    insta::assert_snapshot!(String::from_utf8(err).expect("UTF-8"), @r#"Error: Get "http://127.0.0.1:1/api/v1/clusters": connection refused (is scylla-manager running there? see --api-url)"#);
}
