//! What is printed when a location cannot be used: the step, this host, the location, and what to do.

use scylla_manager_agent::config::S3Provider;
use testbed::s3::{Fault, RequestKind, Rule, S3Config, S3Server};
use tokio::net::TcpListener;

use crate::aws::SECRET;
use crate::check::{Check, Outcome};

const KEY: &str = "AKIAEXAMPLEKEYID0002";

async fn server() -> S3Server {
    let credentials = testbed::s3::Credentials { access_key: KEY.into(), secret_key: SECRET.into() };
    S3Server::start(S3Config { credentials, ..S3Config::default() }).await.unwrap()
}

fn check(endpoint: &str, secret: &str) -> Check {
    let provider = serde_json::to_value(S3Provider::Minio).unwrap();
    Check::new(&format!(
        "s3: {{provider: {provider}, endpoint: '{endpoint}', access_key_id: {KEY}, secret_access_key: {secret}}}"
    ))
}

/// The message, which must name host and location.
fn failure(outcome: &Outcome) -> String {
    assert!(!outcome.success, "{}", outcome.text);
    let at = outcome.text.find("FAILED: s3:").unwrap_or_else(|| panic!("no message in\n{}", outcome.text));
    let text = outcome.text[at..].to_owned();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert!(text.contains(&format!(" on host {host}: ")), "{text}");
    text
}

#[tokio::test]
async fn each_permission_that_is_missing_is_named_and_the_rest_is_tried() {
    for (kinds, step, action) in [
        (&[RequestKind::PutObject][..], "put", "allow s3:PutObject on arn:aws:s3:::backups/*"),
        (&[RequestKind::ListObjectsV2], "list", "allow s3:ListBucket on arn:aws:s3:::backups"),
        (&[RequestKind::GetObject], "get", "allow s3:GetObject on arn:aws:s3:::backups/*"),
        (&[RequestKind::DeleteObject], "delete", "allow s3:DeleteObject on arn:aws:s3:::backups/*"),
        (&[RequestKind::CreateMultipartUpload], "multipart start", "allow s3:PutObject on"),
        (&[RequestKind::UploadPart], "multipart part", "allow s3:PutObject on"),
        (
            &[RequestKind::ListMultipartUploads],
            "multipart list",
            "allow s3:ListBucketMultipartUploads on arn:aws:s3:::backups",
        ),
        (&[RequestKind::ListParts], "multipart continue", "allow s3:ListMultipartUploadParts on"),
        (&[RequestKind::CompleteMultipartUpload], "multipart finish", "allow s3:PutObject on"),
        (&[RequestKind::AbortMultipartUpload], "multipart abort", "allow s3:AbortMultipartUpload on"),
    ] {
        let server = server().await;
        server.faults.add(Rule::new(Fault::access_denied()).on(kinds));
        let outcome = check(&server.endpoint(), SECRET).run("backups", &["--debug"]).await;
        let text = failure(&outcome);
        assert!(text.contains(&format!("{step}: ")) && text.contains(action), "{step}: {text}");
        let told = outcome.line(&format!("{step}: FAILED: "));
        assert!(told.contains(action), "{told}");
        // The last step is reached, unless it could not have begun.
        if !matches!(step, "multipart start" | "multipart abort") {
            assert!(outcome.line("multipart abort: ").starts_with("multipart abort: ok"), "{}", outcome.text);
        }
    }
}

#[tokio::test]
async fn several_missing_permissions_are_told_at_once() {
    let server = server().await;
    let kinds = [RequestKind::GetObject, RequestKind::AbortMultipartUpload];
    server.faults.add(Rule::new(Fault::access_denied()).on(&kinds));
    let text = failure(&check(&server.endpoint(), SECRET).run("backups", &[]).await);
    assert!(text.contains("\n  get: ") && text.contains("s3:GetObject"), "{text}");
    assert!(text.contains("\n  multipart abort: ") && text.contains("s3:AbortMultipartUpload"), "{text}");
}

#[tokio::test]
async fn a_missing_bucket_and_wrong_keys_say_what_to_do() {
    let server = server().await;
    let text = failure(&check(&server.endpoint(), SECRET).run("nowhere", &["--debug"]).await);
    assert!(text.contains("put: ") && text.contains("NoSuchBucket"), "{text}");
    assert!(text.contains("create bucket \"nowhere\""), "{text}");
    let text = failure(&check(&server.endpoint(), "wrong").run("backups", &[]).await);
    assert!(text.contains("SignatureDoesNotMatch") && text.contains("s3.secret_access_key"), "{text}");
    let requests = |kind| server.counters.of(kind).requests;
    let tried = (requests(RequestKind::PutObject), requests(RequestKind::CreateMultipartUpload));
    assert_eq!(tried, (2, 0), "the first refusal says it all");
}

#[tokio::test]
async fn nobody_there_names_the_endpoint() {
    let text = failure(&check("http://127.0.0.1:1", SECRET).run("backups", &["--debug"]).await);
    assert!(text.contains("http://127.0.0.1:1") && text.contains("firewall"), "{text}");
}

#[tokio::test]
async fn without_any_credentials_all_places_are_listed() {
    let server = server().await;
    let yaml = format!("s3: {{provider: Other, endpoint: '{}'}}", server.endpoint());
    let text = failure(&Check::new(&yaml).without_machine().run("backups", &[]).await);
    for words in [
        "credentials: ",
        "NoCredentialProviders",
        "environment variables: ",
        "shared credentials files: ",
        "web identity: ",
        "role of the container: ",
        "role of the machine (instance metadata): ",
        "attach an IAM role",
        "s3.access_key_id",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(server.counters.total().requests, 0);
}

#[tokio::test]
async fn metadata_that_never_answers_is_given_up_soon() {
    // Takes connections and says nothing, like the address of the metadata outside a cloud.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let server = server().await;
    let yaml = format!("s3: {{provider: Other, endpoint: '{}'}}", server.endpoint());
    let check = Check::new(&yaml).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint);
    let text = failure(&check.run("backups", &[]).await);
    assert!(text.contains("credentials: ") && text.contains("instance metadata"), "{text}");
}
