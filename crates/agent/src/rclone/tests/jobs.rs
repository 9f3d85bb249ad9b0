//! Work in the background and settings of the process (spec agent.md 2.6.1 to 2.6.6, 2.6.12, 2.6.13).

use std::time::Duration;

use serde_json::json;

use super::bed::Bed;

const TAG: &str = ".sm_20230114183231UTC";

fn upload(bed: &Bed) -> serde_json::Value {
    for (name, content) in
        [("me-1-big-Data.db", "data"), ("me-1-big-TOC.txt", "toc"), ("me-2-big-Data.db", "two")]
    {
        bed.write(&format!("data/ks/t/snapshots/s/{name}"), content);
    }
    json!({"srcFs": "data:ks", "srcRemote": "t/snapshots/s", "dstFs": "localstorage:b", "dstRemote": "sst", "suffix": TAG})
}

#[tokio::test]
async fn movedir_uploads_skips_and_keeps_older_versions() {
    let bed = Bed::new();
    let params = upload(&bed);
    bed.write("backups/b/sst/me-1-big-TOC.txt", "toc");
    bed.write("backups/b/sst/me-2-big-Data.db", "old");
    let progress = bed.job("sync/movedir", params).await;
    assert_eq!((&progress["status"], &progress["error"]), (&json!("success"), &json!("")));
    assert_eq!(
        (&progress["uploaded"], &progress["skipped"], &progress["failed"]),
        (&json!(7), &json!(3), &json!(0))
    );
    assert_eq!(bed.read("backups/b/sst/me-1-big-Data.db"), "data");
    assert_eq!(bed.read("backups/b/sst/me-2-big-Data.db"), "two");
    assert_eq!(bed.read(&format!("backups/b/sst/me-2-big-Data.db{TAG}")), "old");
    assert_eq!(std::fs::read_dir(bed.path("data/ks/t/snapshots/s")).unwrap().count(), 0);
}

#[tokio::test]
async fn copydir_leaves_the_source_and_files_can_be_asked_for() {
    let bed = Bed::new();
    let mut params = upload(&bed);
    params["_async"] = json!("true");
    params["_group"] = json!("mine");
    let reply = bed.post("sync/copydir", params).await;
    let id = reply.json()["jobid"].as_u64().unwrap();
    assert_eq!(reply.header("x-rclone-jobid"), Some(id.to_string().as_str()));
    bed.call("job/progress", json!({"jobid": id, "wait": 30})).await;
    assert!(bed.exists("data/ks/t/snapshots/s/me-1-big-Data.db"));
    let page = bed.call("job/files", json!({"jobid": id, "offset": 1})).await;
    let files = page["files"].as_array().unwrap();
    assert_eq!((files.len(), &page["next"]), (2, &json!(null)));
    assert!(files.iter().all(|f| f["outcome"] == "uploaded" && f["crc32"].is_u64()), "{page}");
    let info = bed.call("job/info", json!({"jobid": id})).await;
    assert_eq!((&info["job"]["group"], &info["job"]["success"]), (&json!("mine"), &json!(true)));
    assert_eq!((&info["stats"]["transfers"], &info["stats"]["bytes"]), (&json!(3), &json!(10)));
    assert_eq!(info["transferred"].as_array().unwrap().len(), 3);
    bed.call("core/stats-delete", json!({"group": "mine"})).await;
    assert_eq!(bed.refused("job/files", json!({"jobid": id})).await.0, 404);
}

#[tokio::test]
async fn a_job_runs_within_the_request_when_nobody_asks_for_background() {
    let bed = Bed::new();
    let params = upload(&bed);
    assert_eq!(bed.call("sync/copydir", params).await, json!({}));
    assert_eq!(bed.read("backups/b/sst/me-1-big-Data.db"), "data");
}

#[tokio::test]
async fn copypaths_downloads_and_reports_what_is_missing() {
    let bed = Bed::new();
    bed.write("backups/b/sst/a", "one");
    bed.write("backups/b/sst/sub/b", "two");
    let paths = |paths: serde_json::Value| json!({"srcFs": "localstorage:b", "srcRemote": "sst", "dstFs": "data:ks", "dstRemote": "upload", "paths": paths});
    let progress = bed.job("sync/copypaths", paths(json!(["a", "sub/b", "missing"]))).await;
    assert_eq!((&progress["status"], &progress["uploaded"]), (&json!("error"), &json!(6)), "{progress}");
    assert!(progress["error"].as_str().unwrap().contains("not found"), "{progress}");
    assert_eq!(
        (bed.read("data/ks/upload/a"), bed.read("data/ks/upload/sub/b")),
        ("one".into(), "two".into())
    );
    for nothing in [json!([]), json!(null)] {
        assert_eq!(bed.job("sync/copypaths", paths(nothing)).await["status"], "success");
    }
    assert_eq!(bed.refused("sync/copypaths", paths(json!(["../x"]))).await.0, 400);
}

#[tokio::test]
async fn names_and_settings_of_a_job_are_checked_first() {
    let bed = Bed::new();
    let good = upload(&bed);
    for (key, value, status) in [
        ("suffix", json!("x/../y"), 400),
        ("overwrite", json!(["../y"]), 400),
        ("dstRemote", json!("../y"), 400),
        ("bandwidth_rate", json!("fast"), 400),
        ("transfers", json!("many"), 400),
        ("transfers", json!(-2), 500),
    ] {
        let mut params = good.clone();
        params[key] = value;
        params["_async"] = json!(true);
        assert_eq!(bed.refused("sync/movedir", params).await.0, status, "{key}");
    }
    assert_eq!(bed.call("core/bwlimit", json!({})).await["rate"], "off");
    assert_eq!(bed.call("core/transfers", json!({})).await["transfers"], 2);
}

#[tokio::test]
async fn settings_of_a_job_hold_for_the_process() {
    let bed = Bed::new();
    let mut params = upload(&bed);
    params["transfers"] = json!(5);
    params["bandwidth_rate"] = json!("100M");
    bed.job("sync/copydir", params.clone()).await;
    assert_eq!(bed.call("core/transfers", json!({})).await, json!({"transfers": 5}));
    let rate = bed.call("core/bwlimit", json!({})).await;
    assert_eq!((&rate["rate"], &rate["bytesPerSecond"]), (&json!("100M"), &json!(100 << 20)));
    params["transfers"] = json!(-1);
    params["bandwidth_rate"] = json!("0M");
    bed.job("sync/copydir", params.clone()).await;
    assert_eq!(bed.call("core/transfers", json!({})).await, json!({"transfers": 2}));
    let off = json!({"rate": "off", "bytesPerSecond": -1, "bytesPerSecondTx": -1, "bytesPerSecondRx": -1});
    assert_eq!(bed.call("core/bwlimit", json!({})).await, off);
}

#[tokio::test]
async fn limits_are_set_and_told() {
    let bed = Bed::new();
    let rate = bed.call("core/bwlimit", json!({"rate": "10M:1M"})).await;
    assert_eq!(
        (&rate["rate"], &rate["bytesPerSecondTx"], &rate["bytesPerSecondRx"]),
        (&json!("10M:1M"), &json!(10 << 20), &json!(1 << 20))
    );
    assert_eq!(bed.refused("core/bwlimit", json!({"rate": "1X"})).await.0, 400);
    assert_eq!(bed.call("core/transfers", json!({"transfers": "7"})).await, json!({"transfers": 7}));
    let zero = (500, "transfers count must be greater than 0, got 0".to_owned());
    assert_eq!(bed.refused("core/transfers", json!({"transfers": 0})).await, zero);
}

#[tokio::test]
async fn unknown_jobs_are_not_found() {
    let bed = Bed::new();
    for (call, params) in [
        ("job/progress", json!({"jobid": 5, "wait": 10})),
        ("job/progress", json!({"jobid": 5})),
        ("job/progress", json!({})),
        ("job/stop", json!({"jobid": 5})),
        ("job/files", json!({"jobid": 5})),
        ("job/info", json!({"jobid": 5})),
    ] {
        assert_eq!(bed.refused(call, params.clone()).await, (404, "job not found".into()), "{call} {params}");
    }
    let nulls = json!({"job": null, "stats": null, "transferred": null});
    assert_eq!(bed.call("job/info", json!({"jobid": 5, "wait": 1})).await, nulls);
    assert_eq!(bed.call("job/info", json!({"jobid": "x"})).await["stats"]["bytes"], 0);
    for call in ["core/stats-reset", "core/stats-delete"] {
        assert_eq!(bed.call(call, json!({"group": "job/5"})).await, json!({}), "{call}");
        assert_eq!(bed.call(call, json!({})).await, json!({}), "{call}");
    }
}

#[tokio::test]
async fn a_poll_waits_and_a_stop_ends_the_job() {
    let bed = Bed::new();
    bed.write("data/ks/t/big", vec![0; 1 << 20]);
    let params = json!({
        "srcFs": "data:ks", "srcRemote": "t", "dstFs": "localstorage:b", "dstRemote": "d",
        "bandwidth_rate": "1k", "_async": true,
    });
    let id = bed.call("sync/copydir", params).await["jobid"].clone();
    let start = tokio::time::Instant::now();
    let progress = bed.call("job/progress", json!({"jobid": id, "wait": "1"})).await;
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(
        (&progress["status"], &progress["completed_at"]),
        (&json!("running"), &json!("0001-01-01T00:00:00Z"))
    );
    let info = bed.call("job/info", json!({"jobid": id})).await;
    assert_eq!(info["stats"]["transferring"][0]["name"], "big", "{info}");
    assert_eq!(bed.call("job/stop", json!({"jobid": id})).await, json!({}));
    let progress = bed.call("job/progress", json!({"jobid": id, "wait": 30})).await;
    assert_eq!(progress["status"], "error");
    assert!(progress["error"].as_str().unwrap().contains("context canceled"), "{progress}");
    assert_eq!(bed.call("job/stop", json!({"jobid": id})).await, json!({}));
    assert!(!bed.exists("backups/b/d/big"));
}

#[tokio::test]
async fn verify_reads_and_reports_checksums() {
    let bed = Bed::new();
    bed.write("backups/b/sst/x", "data");
    let params = json!({"fs": "localstorage:b", "remote": "sst", "paths": ["x", "gone"], "_async": true});
    let id = bed.call("operations/verify", params).await["jobid"].clone();
    let progress = bed.call("job/progress", json!({"jobid": id, "wait": 30})).await;
    assert_eq!(progress["status"], "error");
    let page = bed.call("job/files", json!({"jobid": id})).await;
    let mut files = page["files"].as_array().unwrap().clone();
    files.sort_by_key(|file| file["name"].to_string());
    assert_eq!((&files[0]["name"], &files[0]["outcome"]), (&json!("gone"), &json!("failed")));
    assert_eq!(files[1]["crc32"], crc32fast::hash(b"data"));
}

#[tokio::test]
async fn the_check_of_permissions_can_be_a_job_too() {
    let bed = Bed::new();
    let progress = bed.job("operations/check-permissions", json!({"fs": "localstorage:b"})).await;
    assert_eq!(progress["status"], "success");
}
