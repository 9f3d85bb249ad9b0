//! Files as operators write them.

use super::*;

fn read(texts: &[&str]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..texts.len()).map(|i| dir.path().join(format!("{i}.yaml"))).collect();
    for (path, text) in paths.iter().zip(texts) {
        std::fs::write(path, text).unwrap();
    }
    load(&paths).map_err(|e| common::error::chain(&e))
}

#[test]
fn no_file_and_empty_sections_are_the_defaults() {
    let defaults = Config::default();
    assert_eq!(load(&["/nonexistent/agent.yaml".into()]).unwrap(), defaults);
    assert_eq!(read(&[]).unwrap(), defaults);
    assert_eq!(read(&["# all commented out\n"]).unwrap(), defaults);
    assert_eq!(read(&["s3:\nscylla:\nlogger:\nrclone:\n"]).unwrap(), defaults);
}

#[test]
fn the_shipped_file_is_accepted_with_every_comment_removed() {
    let shipped = include_str!("../../../../dist/etc/scylla-manager-agent.yaml");
    assert_eq!(read(&[shipped]).unwrap(), Config::default());
    // A line "#key: value" is a setting, "# words" is prose.
    let uncomment = |line: &str| {
        let bare = line.trim_start();
        match bare.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => {
                format!("{}{rest}", &line[..line.len() - bare.len()])
            }
            _ => line.to_owned(),
        }
    };
    let all: Vec<String> = shipped.lines().map(uncomment).collect();
    assert!(all.iter().filter(|l| !l.trim_start().starts_with('#')).count() > 40, "{all:#?}");
    // Every line is a setting that exists, with the value that counts without it.
    assert_eq!(read(&[&all.join("\n")]).unwrap_or_else(|e| panic!("{e}")), Config::default());
}

#[test]
fn later_files_win_key_by_key() {
    let config = read(&[
        "auth_token: one\ns3:\n  region: eu-west-1\n  endpoint: http://a:9000\n",
        "auth_token: two\ns3:\n  endpoint: b\n",
    ])
    .unwrap();
    assert_eq!(config.auth_token.expose(), "two");
    assert_eq!(config.s3.region.as_deref(), Some("eu-west-1"));
    assert_eq!(config.s3.endpoint.as_deref(), Some("https://b"));
}

#[test]
fn values_are_typed() {
    let config = read(&[r#"
auth_token: 12345
https: 10.0.0.1:10009
tls_mode: TLSv1.3
tls_cert_file: /c
tls_key_file: /k
prometheus: ''
debug: ''
cpu: [1, 3]
logger: {mode: stdout, level: debug, encoding: console, sampling: null}
scylla: {api_address: '::1', api_port: 10000, listenaddress: x}
rclone: {transfers: 8, bw_limit: 10M, timeout: 1m30s, bind_addr: 127.0.0.1, use_mmap: false, headers: [], insecure_skip_verify: true}
s3: {provider: Minio, env_auth: false, force_path_style: true, chunk_size: 10M, upload_concurrency: 4, sign_payload: always, ca_file: /ca.pem}
gcs: {endpoint: https://g, chunk_size: 50M}
azure: {account: acc, key: secret}
localstorage: {path: /backups}
transfer: {memory: 64M}
"#])
    .unwrap();
    assert_eq!(config.auth_token.expose(), "12345");
    assert_eq!(config.https, Some(ListenAddress::new("10.0.0.1", 10009)));
    assert_eq!(config.tls_version, TlsVersion::V1_3);
    assert_eq!(config.tls_files, Some(CertificateFiles { cert: "/c".into(), key: "/k".into() }));
    assert_eq!((&config.prometheus, &config.debug), (&None, &None));
    assert_eq!(config.cpu, CpuChoice::List(vec![1, 3]));
    assert_eq!(config.scylla.base_url(), "http://[::1]:10000");
    assert_eq!(config.rclone.transfers, 8);
    assert_eq!(config.rclone.bandwidth, RatePair::both(Some(10 << 20)));
    assert_eq!(config.rclone.timeout, Duration::from_secs(90));
    assert!(config.rclone.insecure_skip_verify);
    assert!(!config.s3.env_auth && config.s3.force_path_style);
    assert_eq!((config.s3.chunk_size, config.s3.upload_concurrency), (10 << 20, 4));
    assert_eq!(config.s3.sign_payload, SignPayload::Always);
    assert!(!config.azure.use_msi);
    assert_eq!(config.localstorage, Some("/backups".into()));
    assert_eq!(config.transfer_memory, 64 << 20);
}

#[test]
fn cpu_is_a_number_or_a_list() {
    for (text, expected) in [
        ("cpu: -1", CpuChoice::Auto),
        ("cpu: [-1]", CpuChoice::Auto),
        ("cpu: 2", CpuChoice::List(vec![2])),
        ("cpu: [0, 2]", CpuChoice::List(vec![0, 2])),
    ] {
        assert_eq!(read(&[text]).unwrap().cpu, expected, "{text}");
    }
}

#[test]
fn path_style_is_off_where_the_provider_refuses_it() {
    for (text, expected) in [
        ("s3: {provider: Minio}", true),
        ("s3: {provider: Ceph, force_path_style: 'false'}", false),
        ("s3: {provider: AWS, force_path_style: true}", false),
        ("s3: {provider: Minio, use_accelerate_endpoint: true}", false),
    ] {
        assert_eq!(read(&[text]).unwrap().s3.force_path_style, expected, "{text}");
    }
}

#[test]
fn refused_files_say_where_and_why() {
    for (text, words) in [
        ("auth_token: a\ntokn: b\n", &["0.yaml", "tokn", "line 2"] as &[_]),
        ("s3:\n  region: x\n  regoin: y\n", &["0.yaml", "s3", "regoin", "line 3"]),
        ("rclone:\n  transfer: 3\n", &["transfer", "line 2"]),
        ("rclone:\n  transfers: many\n", &["rclone.transfers", "line 2"]),
        ("tls_version: TLSv1.0", &["tls_version", "TLSv1.2 or TLSv1.3"]),
        ("tls_version: SSLv3", &["tls_version", "SSLv3"]),
        ("tls_cert_file: /c", &["tls_key_file", "both or none"]),
        ("https: nowhere", &["https", "host:port"]),
        ("https_port: 70000", &["https_port"]),
        ("prometheus: '5090'", &["prometheus", ":port"]),
        ("cpu: -2", &["cpu"]),
        ("cpu: fast", &["cpu", "list of CPU numbers"]),
        ("scylla: {api_address: ''}", &["scylla.api_address", "must not be empty"]),
        ("scylla: {api_port: ''}", &["scylla.api_port", "must not be empty"]),
        ("s3: {provider: Amazon}", &["s3.provider", "Minio"]),
        ("s3: {provider: '', endpoint: x}", &["s3.provider", "endpoint"]),
        ("s3: {endpoint: 'ftp://x'}", &["s3.endpoint", "https://"]),
        ("s3: {endpoint: 'https://user:hunter2@x'}", &["s3.endpoint", "***@x", "s3.access_key_id"]),
        ("logger: {sampling: {first: 1}}", &["logger.sampling", "first", "line 1"]),
        ("s3: {chunk_size: 1M}", &["s3.chunk_size", "5M"]),
        ("s3: {chunk_size: big}", &["s3.chunk_size", "suffix"]),
        ("s3: {env_auth: maybe}", &["s3.env_auth", "true or false"]),
        ("s3: {v2_auth: true}", &["s3.v2_auth", "version 4"]),
        ("s3: {sign_payload: sometimes}", &["s3.sign_payload", "auto"]),
        ("rclone: {transfers: 0}", &["rclone.transfers", "at least 1"]),
        ("rclone: {bw_limit: [{bandwidth: 1M}]}", &["rclone.bw_limit", "timetables"]),
        ("rclone: {bind_addr: eth0}", &["rclone.bind_addr", "IP address"]),
        ("transfer: {memory: 1M}", &["transfer.memory", "40M"]),
        ("logger: {level: loud}", &["loud", "line 1"]),
        ("auth_token: 1.5", &["quoted", "line 1"]),
        ("a: [", &["0.yaml"]),
    ] {
        let error = read(&[text]).expect_err(text);
        for word in words {
            assert!(error.contains(word), "{text:?}: {error} lacks {word}");
        }
    }
}

#[test]
fn keys_that_change_nothing_are_known() {
    let config = read(&[r#"
logger: {sampling: {initial: 1, thereafter: 100}}
scylla: {listenaddress: x}
rclone: {transfers: 3, buffer_size: 1, headers: [], use_mmap: null}
s3: {encoding: x, region: eu, no_check_bucket: false, disable_checksum: true}
gcs: {chunk_size: 50M}
azure: {account: acc}
"#]);
    let expected = "logger.sampling scylla.listenaddress rclone.buffer_size rclone.headers s3.encoding s3.no_check_bucket gcs \
                    azure";
    assert_eq!(config.unwrap().without_effect.join(" "), expected);
    let nothing = read(&["logger: {sampling: null}\ngcs:\nazure: {}\nrclone: {transfers: 3}\n"]).unwrap();
    assert_eq!(nothing.without_effect, Vec::<String>::new());
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    let error = read(&["s3: {endpoint: 'https://user:hunter2@x'}"]).unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn the_masked_form_keeps_lengths_and_hides_secrets() {
    let config = read(&[r#"
auth_token: token-abc
s3: {access_key_id: AKIAXYZ, secret_access_key: s3cr3t-key, session_token: sess, sse_customer_key: ckey, region: eu}
gcs: {client_secret: gsecret, token: gtoken, service_account_credentials: gcreds}
azure: {account: acc, key: akey1234, sas_url: 'https://x?sig=1'}
"#])
    .unwrap();
    for printed in [config.masked(), format!("{config:?}")] {
        for secret in [
            "token-abc",
            "AKIAXYZ",
            "s3cr3t-key",
            "sess\"",
            "ckey",
            "gsecret",
            "gtoken",
            "gcreds",
            "akey1234",
            "sig=",
        ] {
            assert!(!printed.contains(secret), "{secret} in {printed}");
        }
        assert!(printed.contains("*********") && printed.contains("eu"), "{printed}");
    }
    let json: serde_json::Value = serde_json::from_str(&config.masked()).unwrap();
    assert_eq!(json["auth_token"], "*********");
    assert_eq!(json["s3"]["secret_access_key"], "**********");
}
