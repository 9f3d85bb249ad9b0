//! The server as a client sees it, through the AWS SDK.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier,
};

use super::*;

const MIB: usize = 1024 * 1024;

fn client(server: &S3Server, secret: &str) -> Client {
    let keys =
        aws_credential_types::Credentials::new(&server.credentials.access_key, secret, None, None, "test");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(server.endpoint())
        .force_path_style(true)
        .credentials_provider(keys)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().operation_timeout(Duration::from_secs(20)).build())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

async fn start(config: S3Config) -> (S3Server, Client) {
    let server = S3Server::start(config).await.expect("a free port");
    let client = client(&server, &server.credentials.secret_key.clone());
    (server, client)
}

fn code<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug, R: std::fmt::Debug>(
    result: Result<T, SdkError<E, R>>,
) -> String {
    let error = result.expect_err("the server refuses this");
    error.code().map_or_else(|| format!("{error:?}"), str::to_owned)
}

async fn put(client: &Client, key: &str, body: &[u8]) {
    client
        .put_object()
        .bucket("backups")
        .key(key)
        .body(ByteStream::from(body.to_vec()))
        .send()
        .await
        .expect("put");
}

async fn read(client: &Client, key: &str) -> Vec<u8> {
    let object = client.get_object().bucket("backups").key(key).send().await.expect("get");
    object.body.collect().await.expect("body").to_vec()
}

fn storages() -> (tempfile::TempDir, [Storage; 2]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = Storage::Disk(dir.path().to_owned());
    (dir, [Storage::Memory, disk])
}

#[tokio::test]
async fn objects_come_back_as_they_were_put() {
    let (dir, storages) = storages();
    for storage in storages {
        let (server, client) = start(S3Config { storage, ..S3Config::default() }).await;
        put(&client, "a", b"file").await;
        put(&client, "a/b", b"file below the name of another").await;
        put(&client, "empty", b"").await;
        assert_eq!(read(&client, "a").await, b"file");
        assert_eq!(read(&client, "a/b").await, b"file below the name of another");
        assert_eq!(read(&client, "empty").await, b"");
        let head = client.head_object().bucket("backups").key("a").send().await.expect("head");
        assert_eq!(head.e_tag(), Some("\"8c7dd922ad47494fc02c388e12c00eac\""));
        let range =
            client.get_object().bucket("backups").key("a/b").range("bytes=5-9").send().await.expect("range");
        assert_eq!(range.content_range(), Some("bytes 5-9/30"));
        assert_eq!(range.body.collect().await.expect("body").to_vec(), b"below");
        assert_eq!(
            code(client.get_object().bucket("backups").key("a").range("bytes=4-").send().await),
            "InvalidRange"
        );
        client.delete_object().bucket("backups").key("a").send().await.expect("delete");
        assert_eq!(code(client.get_object().bucket("backups").key("a").send().await), "NoSuchKey");
        server.stop().await;
    }
    let left = std::fs::read_dir(dir.path()).expect("the directory").count();
    assert_eq!(left, 0, "body files go away with their objects");
}

#[tokio::test]
async fn wrong_addresses_and_keys_are_refused() {
    let (server, good) = start(S3Config::default()).await;
    assert_eq!(
        code(good.put_object().bucket("nowhere").key("a").body(ByteStream::from_static(b"x")).send().await),
        "NoSuchBucket"
    );
    assert_eq!(code(good.list_objects_v2().bucket("nowhere").send().await), "NoSuchBucket");
    let wrong = client(&server, "wrong");
    assert_eq!(code(wrong.list_objects_v2().bucket("backups").send().await), "SignatureDoesNotMatch");
    assert!(server.store.objects("backups").is_empty());
}

#[tokio::test]
async fn digests_that_do_not_match_the_body_are_refused() {
    let (server, client) = start(S3Config::default()).await;
    let put = || client.put_object().bucket("backups").key("a").body(ByteStream::from_static(b"123456789"));
    assert_eq!(code(put().content_md5("AAAAAAAAAAAAAAAAAAAAAA==").send().await), "BadDigest");
    assert_eq!(code(put().content_md5("nonsense").send().await), "InvalidDigest");
    assert_eq!(code(put().checksum_crc32("AAAAAA==").send().await), "BadDigest");
    assert!(server.store.objects("backups").is_empty());
    // CRC-32 of "123456789" is cbf43926.
    let stored = put().checksum_crc32("y/Q5Jg==").send().await.expect("a true checksum");
    assert_eq!(stored.checksum_crc32(), Some("y/Q5Jg=="));
    assert_eq!(server.store.objects("backups"), [("a".to_owned(), 9, 0xcbf4_3926)]);
    let modern = Client::from_conf(
        client
            .config()
            .to_builder()
            .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
            .build(),
    );
    let body = ByteStream::from_static(b"123456789");
    let trailer = modern
        .put_object()
        .bucket("backups")
        .key("b")
        .body(body)
        .send()
        .await
        .expect("a checksum of the SDK's own");
    assert_eq!(trailer.checksum_crc32(), Some("y/Q5Jg=="));
}

#[tokio::test]
async fn conditions_hold_at_the_time_of_the_write() {
    let (_server, client) = start(S3Config::default()).await;
    let put = || client.put_object().bucket("backups").key("a").body(ByteStream::from_static(b"x"));
    put().if_none_match("*").send().await.expect("first write");
    assert_eq!(code(put().if_none_match("*").send().await), "PreconditionFailed");
    assert_eq!(code(put().if_match("\"0\"").send().await), "PreconditionFailed");
    put().if_match("\"9dd4e461268c8034f5c8564e155c67a6\"").send().await.expect("MD5 of x");
    let get = client.get_object().bucket("backups").key("a");
    assert_eq!(code(get.if_match("\"0\"").send().await), "PreconditionFailed");
}

#[tokio::test]
async fn listings_are_sorted_pages() {
    let (server, client) = start(S3Config::default()).await;
    for n in 0..2500 {
        server.store.insert("backups", &format!("d{}/{n:05}", n % 3), "x").expect("insert");
    }
    let mut pages =
        client.list_objects_v2().bucket("backups").prefix("d1/").into_paginator().page_size(100).send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.expect("page");
        assert!(page.contents().len() <= 100);
        keys.extend(page.contents().iter().map(|object| object.key().expect("key").to_owned()));
    }
    assert_eq!(keys.len(), 833);
    assert!(keys.is_sorted());
    let top = client.list_objects_v2().bucket("backups").delimiter("/").send().await.expect("list");
    let prefixes: Vec<_> = top.common_prefixes().iter().filter_map(|prefix| prefix.prefix()).collect();
    assert_eq!(prefixes, ["d0/", "d1/", "d2/"]);
    assert_eq!(top.key_count(), Some(3));
}

#[tokio::test]
async fn many_keys_are_deleted_at_once() {
    let (server, client) = start(S3Config::default()).await;
    put(&client, "a", b"x").await;
    put(&client, "b", b"x").await;
    let id = |key: &str| ObjectIdentifier::builder().key(key).build().expect("key");
    let delete =
        |ids: Vec<ObjectIdentifier>| Delete::builder().set_objects(Some(ids)).build().expect("delete");
    client
        .delete_objects()
        .bucket("backups")
        .delete(delete(vec![id("a"), id("missing")]))
        .send()
        .await
        .expect("delete");
    assert_eq!(server.store.objects("backups").len(), 1);
    let many = (0..1001).map(|n| id(&n.to_string())).collect();
    assert_eq!(
        code(client.delete_objects().bucket("backups").delete(delete(many)).send().await),
        "MalformedXML"
    );
}

/// Uploads parts of these sizes and answers what completing them needs.
async fn upload_parts(client: &Client, key: &str, sizes: &[usize]) -> (String, Vec<CompletedPart>) {
    let created = client
        .create_multipart_upload()
        .bucket("backups")
        .key(key)
        .checksum_algorithm(ChecksumAlgorithm::Crc32)
        .send()
        .await;
    let id = created.expect("create").upload_id().expect("upload ID").to_owned();
    let mut parts = Vec::new();
    for (number, size) in (1..).zip(sizes) {
        let body = vec![u8::try_from(number).expect("few parts"); *size];
        let crc = crc32fast::hash(&body);
        let part = client
            .upload_part()
            .bucket("backups")
            .key(key)
            .upload_id(&id)
            .part_number(number)
            .body(ByteStream::from(body));
        let part = part.checksum_crc32(checksum::crc32_text(crc)).send().await.expect("part");
        let listed = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(part.e_tag)
            .set_checksum_crc32(part.checksum_crc32);
        parts.push(listed.build());
    }
    (id, parts)
}

async fn complete(client: &Client, key: &str, id: &str, parts: Vec<CompletedPart>) -> Result<(), String> {
    let list = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let sent = client
        .complete_multipart_upload()
        .bucket("backups")
        .key(key)
        .upload_id(id)
        .multipart_upload(list)
        .send()
        .await;
    sent.map(|_| ()).map_err(|error| error.code().unwrap_or("none").to_owned())
}

#[tokio::test]
async fn multipart_uploads_follow_the_rules() {
    let (dir, storages) = storages();
    for storage in storages {
        let (server, client) = start(S3Config { storage, ..S3Config::default() }).await;
        let (id, parts) = upload_parts(&client, "big", &[5 * MIB, 5 * MIB, 3]).await;
        assert_eq!(server.store.unfinished_uploads("backups"), 1);
        let reversed = parts.iter().rev().cloned().collect();
        assert_eq!(complete(&client, "big", &id, reversed).await, Err("InvalidPartOrder".into()));
        let wrong = CompletedPart::builder().part_number(1).e_tag("\"0\"").build();
        assert_eq!(complete(&client, "big", &id, vec![wrong]).await, Err("InvalidPart".into()));
        let listed = client
            .list_parts()
            .bucket("backups")
            .key("big")
            .upload_id(&id)
            .max_parts(2)
            .send()
            .await
            .expect("list parts");
        assert_eq!((listed.parts().len(), listed.is_truncated()), (2, Some(true)));
        assert!(listed.parts()[0].checksum_crc32().is_some());
        complete(&client, "big", &id, parts.clone()).await.expect("complete");
        assert_eq!(complete(&client, "big", &id, parts).await, Err("NoSuchUpload".into()));
        let body = read(&client, "big").await;
        assert_eq!(body.len(), 10 * MIB + 3);
        assert_eq!(
            server.store.objects("backups")[0].2,
            crc32fast::hash(&body),
            "the CRC of the parts is that of the whole"
        );

        let (id, parts) = upload_parts(&client, "small-part", &[1024, 5 * MIB]).await;
        assert_eq!(complete(&client, "small-part", &id, parts).await, Err("EntityTooSmall".into()));
        let open = client.list_multipart_uploads().bucket("backups").send().await.expect("list uploads");
        assert_eq!(open.uploads().len(), 1);
        client
            .abort_multipart_upload()
            .bucket("backups")
            .key("small-part")
            .upload_id(&id)
            .send()
            .await
            .expect("abort");
        assert_eq!(server.store.unfinished_uploads("backups"), 0);
        server.stop().await;
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 0);
}

#[tokio::test]
async fn a_part_without_the_checksum_named_at_the_start_is_refused() {
    let (_server, client) = start(S3Config::default()).await;
    let created = client.create_multipart_upload().bucket("backups").key("k").send().await.expect("create");
    let part = client
        .upload_part()
        .bucket("backups")
        .key("k")
        .upload_id(created.upload_id().expect("ID"))
        .part_number(1);
    let sent = part.body(ByteStream::from_static(b"123456789")).checksum_crc32("y/Q5Jg==").send().await;
    assert_eq!(code(sent), "InvalidRequest");
}

#[tokio::test]
async fn copies_have_the_etag_of_one_piece() {
    let (server, client) = start(S3Config::default()).await;
    let (id, parts) = upload_parts(&client, "big", &[5 * MIB, 1]).await;
    complete(&client, "big", &id, parts).await.expect("complete");
    assert!(server.store.object("backups", "big").expect("object").etag.ends_with("-2"));
    client.copy_object().bucket("backups").key("copy").copy_source("backups/big").send().await.expect("copy");
    assert!(!server.store.object("backups", "copy").expect("object").etag.contains('-'));
    assert_eq!(read(&client, "copy").await, read(&client, "big").await);
    let missing = client.copy_object().bucket("backups").key("x").copy_source("backups/missing").send().await;
    assert_eq!(code(missing), "NoSuchKey");
    let itself = client.copy_object().bucket("backups").key("big").copy_source("backups/big").send().await;
    assert_eq!(code(itself), "InvalidRequest");
}

#[tokio::test]
async fn faults_act_where_they_say() {
    let (server, client) = start(S3Config::default()).await;
    let put =
        |key: &str| client.put_object().bucket("backups").key(key).body(ByteStream::from(vec![7; 100_000]));

    let busy = server.faults.add(
        Rule::new(Fault::slow_down()).on(&[RequestKind::PutObject]).key("*-Data.db").calls(Calls::First(1)),
    );
    assert_eq!(code(put("me-1-Data.db").send().await), "SlowDown");
    put("me-1-Data.db").send().await.expect("only the first call is refused");
    assert_eq!(server.faults.remove(busy), 1);

    server.faults.add(Rule::new(Fault::LostReply).on(&[RequestKind::PutObject]).key("lost"));
    assert!(put("lost").send().await.is_err());
    assert!(server.store.object("backups", "lost").is_some(), "a lost reply is a done deed");

    server.faults.add(Rule::new(Fault::CutRequest(10_000)).key("cut"));
    assert!(put("cut").send().await.is_err());
    assert!(server.store.object("backups", "cut").is_none());

    server.faults.add(Rule::new(Fault::CutReply(10)).on(&[RequestKind::GetObject]));
    let object = client.get_object().bucket("backups").key("lost").send().await.expect("headers come whole");
    assert!(object.body.collect().await.is_err());

    server.faults.add(Rule::new(Fault::Reset).key("reset"));
    assert!(put("reset").send().await.is_err());
    server.faults.clear();
    put("reset").send().await.expect("no rule is left");
}

#[tokio::test]
async fn a_gate_holds_requests_until_it_opens() {
    let (server, client) = start(S3Config::default()).await;
    let gate = Gate::default();
    server.faults.add(Rule::new(Fault::Hold(gate.clone())).on(&[RequestKind::PutObject]));
    let held = async { put(&client, "a", b"x").await };
    let test = async {
        assert!(gate.reached(1, Duration::from_secs(10)).await);
        assert!(server.store.objects("backups").is_empty());
        gate.open();
    };
    tokio::join!(held, test);
    assert_eq!(server.store.objects("backups").len(), 1);
}

#[tokio::test]
async fn requests_and_bytes_are_counted() {
    let (server, client) = start(S3Config::default()).await;
    put(&client, "backup/sst/a", &vec![1; 300_000]).await;
    put(&client, "backup/meta/b", b"x").await;
    assert_eq!(code(client.get_object().bucket("backups").key("c").send().await), "NoSuchKey");
    assert_eq!(
        server.counters.of(RequestKind::PutObject),
        KindCount { requests: 2, failed: 0, bytes_in: 300_001 }
    );
    assert_eq!(server.counters.of(RequestKind::GetObject), KindCount { requests: 1, failed: 1, bytes_in: 0 });
    assert_eq!(server.counters.written_keys("backup/sst/"), ["backup/sst/a"]);
    assert_eq!(server.counters.received_per_window().iter().sum::<u64>(), 300_001);
    server.counters.reset();
    assert_eq!(server.counters.total(), KindCount::default());
}

#[tokio::test]
async fn a_discarding_server_keeps_small_bodies_only() {
    let (server, client) = start(S3Config {
        storage: Storage::Discard { keep_up_to: 1000 },
        quirks: Quirks { opaque_etags: true, ..Quirks::default() },
        ..S3Config::default()
    })
    .await;
    put(&client, "small", b"manifest").await;
    put(&client, "large", &vec![3; 100_000]).await;
    assert_eq!(read(&client, "small").await, b"manifest");
    let large = server.store.object("backups", "large").expect("object");
    assert_eq!((large.blob.size(), large.blob.crc32()), (100_000, crc32fast::hash(&vec![3; 100_000])));
    // Whether the headers still come through is a matter of buffering.
    if let Ok(object) = client.get_object().bucket("backups").key("large").send().await {
        assert!(object.body.collect().await.is_err());
    }
}
