//! Moving a snapshot into the bucket when all goes well.

use common::api::agent::JobStatus;
use scylla_manager_agent::config::S3Provider;
use testbed::s3::{RequestKind, S3Config};

use crate::support::{MIB, Rig, body, facts};

const SUFFIX: &str = ".sm_20260102000000UTC";

#[tokio::test]
async fn small_files_take_one_request_each_and_large_ones_go_in_parts() -> anyhow::Result<()> {
    for provider in [S3Provider::Aws, S3Provider::Minio, S3Provider::Ceph, S3Provider::Other] {
        let rig = Rig::start(provider, S3Config::default()).await?;
        for number in 0..40 {
            rig.write(&format!("me-{number}-big-Index.db"), &body(2000 + number, 1))?;
        }
        let large = body(11 * MIB, 2);
        rig.write("me-1-big-Scylla.db", &large)?;
        rig.write("me-1-big-Filter.db", b"")?;

        let progress = rig.move_snapshot(SUFFIX).await?;

        assert_eq!(progress.status, JobStatus::Success, "{provider:?}: {}", progress.error);
        assert_eq!(rig.left()?, Vec::<String>::new());
        assert_eq!(rig.object("me-1-big-Scylla.db"), facts(&large));
        assert_eq!(rig.object("me-1-big-Filter.db"), facts(b""));
        for number in 0..40 {
            assert_eq!(rig.object(&format!("me-{number}-big-Index.db")), facts(&body(2000 + number, 1)));
        }
        let counters = &rig.server.counters;
        assert_eq!(counters.of(RequestKind::PutObject).requests, 41, "{provider:?}");
        assert_eq!(counters.of(RequestKind::UploadPart).requests, 3, "{provider:?}");
        let others = counters.total().requests - 44;
        assert!(others <= 5, "{provider:?}: {others} requests besides: {:?}", counters.by_kind());
        assert_eq!(counters.total().failed, 0, "{provider:?}: {:?}", counters.log());
    }
    Ok(())
}

#[tokio::test]
async fn equal_files_are_skipped_and_other_content_is_set_aside() -> anyhow::Result<()> {
    let rig = Rig::start(S3Provider::Minio, S3Config::default()).await?;
    let bodies = [
        ("mc-1-big-Data.db", body(3000, 1)),
        ("mc-2-big-Data.db", body(6 * MIB, 2)),
        ("mc-3-big-TOC.txt", body(30, 3)),
    ];
    for (name, body) in &bodies {
        rig.write(name, body)?;
    }
    assert_eq!(rig.move_snapshot(".sm_20260101000000UTC").await?.status, JobStatus::Success);
    rig.server.counters.reset();

    // The same, another size, and the same size with other bytes.
    rig.write("mc-3-big-TOC.txt", &bodies[2].1)?;
    let longer = body(3100, 9);
    rig.write("mc-1-big-Data.db", &longer)?;
    let changed = body(6 * MIB, 9);
    rig.write("mc-2-big-Data.db", &changed)?;
    let progress = rig.move_snapshot(SUFFIX).await?;

    assert_eq!(progress.status, JobStatus::Success, "{}", progress.error);
    assert_eq!(rig.object("mc-1-big-Data.db"), facts(&longer));
    assert_eq!(rig.object(&format!("mc-1-big-Data.db{SUFFIX}")), facts(&bodies[0].1));
    assert_eq!(rig.object("mc-2-big-Data.db"), facts(&changed));
    assert_eq!(rig.object(&format!("mc-2-big-Data.db{SUFFIX}")), facts(&bodies[1].1));
    assert_eq!(rig.object(&format!("mc-3-big-TOC.txt{SUFFIX}")), None, "equal files have no older copy");
    assert_eq!(progress.skipped, 30);
    Ok(())
}

#[tokio::test]
async fn the_digest_beside_a_data_file_is_sent_after_it() -> anyhow::Result<()> {
    let rig = Rig::start(S3Provider::Aws, S3Config::default()).await?;
    let data = body(7 * MIB, 4);
    rig.write("me-1-big-Data.db", &data)?;
    rig.write("me-1-big-Digest.crc32", crc32fast::hash(&data).to_string().as_bytes())?;

    let progress = rig.move_snapshot(SUFFIX).await?;

    assert_eq!(progress.status, JobStatus::Success, "{}", progress.error);
    let written = rig.server.counters.written_keys("backup/");
    let names: Vec<&str> = written.iter().filter_map(|key| key.rsplit('/').next()).collect();
    assert_eq!(names, ["me-1-big-Data.db", "me-1-big-Digest.crc32"]);
    Ok(())
}
