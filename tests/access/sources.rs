//! Where credentials and the region come from, and as whom the agent then speaks.

use crate::aws::{Aws, BUCKET, CALLER, CONTAINER_TOKEN, REGION, SECRET, SESSION, WEB_ROLE, WEB_TOKEN};
use crate::check::{Check, Outcome};

const KEY: &str = "ASIAEXAMPLEKEYID0001";

/// Every request to S3 was signed with our key for this region, and carried the session token.
fn assert_signed(aws: &Aws, region: &str, session: &str) {
    let seen = aws.seen();
    assert!(seen.scopes.len() > 10, "{seen:?}");
    for scope in &seen.scopes {
        let parts: Vec<&str> = scope.split('/').collect();
        assert_eq!((parts[0], parts[2], parts[3]), (KEY, region, "s3"), "{scope}");
    }
    assert!(seen.sessions.iter().all(|s| s == session), "{seen:?}");
    assert!(seen.tunnels.iter().all(|host| host.ends_with(".amazonaws.com:443")), "{seen:?}");
    assert_eq!(aws.s3.store.objects(BUCKET).len(), 0, "nothing is left");
}

fn assert_temporary(outcome: &Outcome) {
    let key = outcome.line("access key ID: ");
    assert!(key.starts_with(&format!("access key ID: {KEY} (temporary, until 20")), "{key}");
}

#[tokio::test]
async fn the_role_of_the_machine_is_found_with_its_region() {
    let aws = Aws::start(KEY).await;
    let outcome = Check::at(&aws, "auth_token: t").succeeds().await;
    for line in [
        "location: s3:my.backups",
        "endpoint: AWS",
        "region: eu-west-3 (metadata of the machine)",
        "credentials: role of the machine (instance metadata), role backup-role",
        &format!("identity: {CALLER}"),
    ] {
        assert!(outcome.has(line), "{line}\n{}", outcome.text);
    }
    assert_temporary(&outcome);
    assert_signed(&aws, REGION, SESSION);
    assert!(aws.seen().metadata.contains(&"PUT /latest/api/token".to_owned()));
}

#[tokio::test]
async fn the_role_of_a_container_comes_from_its_endpoint() {
    let aws = Aws::start(KEY).await;
    let check = Check::at(&aws, "auth_token: t")
        .without_machine()
        .env("AWS_REGION", REGION)
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("http://{}/container", aws.metadata))
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN", CONTAINER_TOKEN);
    let outcome = check.succeeds().await;
    assert!(outcome.has("region: eu-west-3 (AWS_REGION)"), "{}", outcome.text);
    assert!(outcome.has("credentials: role of the container"), "{}", outcome.text);
    assert_temporary(&outcome);
    assert_signed(&aws, REGION, SESSION);
    assert_eq!(aws.seen().metadata, ["GET /container"]);
}

#[tokio::test]
async fn a_web_identity_token_is_exchanged_at_sts() {
    let aws = Aws::start(KEY).await;
    let check = Check::at(&aws, "auth_token: t")
        .file("token", WEB_TOKEN)
        .env("AWS_REGION", REGION)
        .env("AWS_ROLE_ARN", WEB_ROLE)
        .env("AWS_ROLE_SESSION_NAME", "node-1");
    let token = check.path("token");
    // The machine has a role too: that of the pod comes first.
    let outcome = check.env("AWS_WEB_IDENTITY_TOKEN_FILE", &token).succeeds().await;
    assert!(outcome.has(&format!("credentials: web identity, role {WEB_ROLE}")), "{}", outcome.text);
    assert!(outcome.has(&format!("identity: {CALLER}")), "{}", outcome.text);
    assert_temporary(&outcome);
    assert_signed(&aws, REGION, SESSION);
}

#[tokio::test]
async fn a_web_identity_that_sts_refuses_ends_the_check_at_once() {
    let aws = Aws::start(KEY).await;
    let check = Check::at(&aws, "auth_token: t")
        .file("token", "another.token")
        .env("AWS_REGION", REGION)
        .env("AWS_ROLE_ARN", WEB_ROLE);
    let token = check.path("token");
    let outcome = check.env("AWS_WEB_IDENTITY_TOKEN_FILE", &token).run(BUCKET, &["--debug"]).await;
    assert!(!outcome.success);
    let failure = outcome.line("FAILED: ");
    for words in ["s3:my.backups on host ", "credentials: ", WEB_ROLE, "sts:AssumeRoleWithWebIdentity"] {
        assert!(failure.contains(words), "{words}: {failure}");
    }
    let asked = aws.seen().tunnels.iter().filter(|host| host.starts_with("sts.")).count();
    assert_eq!(asked, 1, "a refusal stays one");
    assert_eq!(aws.seen().scopes.len(), 0);
}

#[tokio::test]
async fn keys_of_the_environment_come_before_files_and_roles() {
    for (id, secret) in [("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_ACCESS_KEY", "AWS_SECRET_KEY")]
    {
        let aws = Aws::start(KEY).await;
        let check = Check::at(&aws, "auth_token: t")
            .file(".aws/credentials", "[default]\naws_access_key_id = other\naws_secret_access_key = other\n")
            .env(id, KEY)
            .env(secret, SECRET);
        let outcome = check.succeeds().await;
        assert!(outcome.has("credentials: environment variables"), "{}", outcome.text);
        assert!(outcome.has(&format!("access key ID: {KEY}")), "{}", outcome.text);
        assert_signed(&aws, REGION, "");
    }
}

#[tokio::test]
async fn a_profile_brings_keys_and_region() {
    let keys = format!("aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    for (yaml, profile, env, line) in [
        ("auth_token: t", "default", None, "credentials: default profile of the shared credentials files"),
        (
            "auth_token: t",
            "backup",
            Some("backup"),
            "credentials: profile \"backup\" of the shared credentials files",
        ),
        (
            "s3: {profile: backup}",
            "backup",
            None,
            "credentials: profile \"backup\" of the shared credentials files",
        ),
    ] {
        let aws = Aws::start(KEY).await;
        let section = if profile == "default" { "default".to_owned() } else { format!("profile {profile}") };
        let mut check = Check::at(&aws, yaml)
            .without_machine()
            .file(".aws/credentials", &format!("[{profile}]\n{keys}"))
            .file(".aws/config", &format!("[{section}]\nregion = {REGION}\n"));
        if let Some(name) = env {
            check = check.env("AWS_PROFILE", name);
        }
        let outcome = check.succeeds().await;
        assert!(outcome.has("region: eu-west-3 (shared configuration file)"), "{}", outcome.text);
        assert!(outcome.has(line), "{line}\n{}", outcome.text);
        assert_signed(&aws, REGION, "");
    }
}

#[tokio::test]
async fn keys_and_region_of_the_configuration_ask_nobody() {
    let aws = Aws::start(KEY).await;
    let yaml = format!("s3: {{access_key_id: {KEY}, secret_access_key: {SECRET}, region: {REGION}}}");
    let outcome = Check::at(&aws, &yaml).env("AWS_ACCESS_KEY_ID", "other").succeeds().await;
    assert!(outcome.has("region: eu-west-3 (configuration)"), "{}", outcome.text);
    assert!(outcome.has("credentials: keys in the configuration (s3.access_key_id)"), "{}", outcome.text);
    assert_signed(&aws, REGION, "");
    assert_eq!(aws.seen().metadata, Vec::<String>::new());
}

#[tokio::test]
async fn without_debug_nothing_is_said() {
    let aws = Aws::start(KEY).await;
    let outcome = Check::at(&aws, "auth_token: t").run(BUCKET, &[]).await;
    assert!(outcome.success && outcome.text.is_empty(), "{}", outcome.text);
    assert!(!aws.seen().tunnels.iter().any(|host| host.starts_with("sts.")), "nobody asked who we are");
}
