//! `backup list`, `backup files` and `backup delete` as the guide uses them.

use std::collections::BTreeSet;

use testbed::harness::{AUTH_TOKEN, Bed};

use crate::support::{config, json, small};

/// Tags that `backup list` shows with these flags.
async fn tags(bed: &Bed, flags: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let document = json(bed, &[&["backup", "list", "-c", "test"], flags].concat()).await?;
    let items = document["backups"].as_array().cloned().unwrap_or_default();
    let snapshots = items.iter().flat_map(|item| item["snapshot_info"].as_array().into_iter().flatten());
    Ok(snapshots.filter_map(|s| s["snapshot_tag"].as_str().map(str::to_owned)).collect())
}

fn set(tags: &[&str]) -> BTreeSet<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

/// The time of a tag as RFC 3339.
fn time(tag: &str) -> String {
    let digits = &tag["sm_".len()..];
    let part = |from: usize, to: usize| &digits[from..to];
    format!("{}-{}-{}T{}:{}:{}Z", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14))
}

#[tokio::test]
async fn backups_are_listed_through_every_filter() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(1))).await?;
    let (orders, first) = bed.backup(&["-K", "shop.orders"]).await?;
    let second = bed.backup_again(&orders, 2).await?;
    let (carts, third) = bed.backup(&["-K", "shop.carts"]).await?;
    // The same nodes as another cluster, backed up into the same bucket.
    let (host, port) = (bed.cluster.nodes()[0].address().to_string(), bed.agent_port().to_string());
    let add =
        ["cluster", "add", "--name", "twin", "--host", &host, "--port", &port, "--auth-token", AUTH_TOKEN];
    bed.sctool_ok(&add).await?;
    let location = bed.location();
    let flags = ["-L", &location, "-K", "shop.carts", "--wait"];
    bed.sctool_ok(&[&["backup", "-c", "twin"], &flags[..]].concat()).await?;

    let text = bed.sctool_ok(&["backup", "list", "-c", "test", "-L", &location]).await?;
    let text = regex::Regex::new(r"\([0-9.]+[A-Za-z]+, ")?.replace_all(&text, "(");
    for (task, tags) in [(&orders, &[&second, &first][..]), (&carts, &[&third])] {
        let lines: String = tags.iter().map(|tag| format!("  - {tag} (1 nodes)\n")).collect();
        let keyspaces = "Keyspaces:\n  - system_schema (15 tables)\n  - shop (1 table)\n\n";
        let block = format!("{task}\nSnapshots:\n{lines}{keyspaces}");
        assert!(text.contains(&block), "{block} is not in\n{text}");
    }

    assert_eq!(tags(&bed, &[]).await?, set(&[&first, &second, &third]));
    assert_eq!(tags(&bed, &["-K", "shop.carts"]).await?, set(&[&third]));
    assert_eq!(tags(&bed, &["-K", "nothing"]).await?, set(&[]));
    assert_eq!(tags(&bed, &["--min-date", &time(&second)]).await?, set(&[&second, &third]));
    assert_eq!(tags(&bed, &["--max-date", &time(&second)]).await?, set(&[&first, &second]));
    assert_eq!(tags(&bed, &["--max-date", "now-1d"]).await?, set(&[]));
    let all = bed.sctool_ok(&["backup", "list", "-c", "test", "--all-clusters", "--show-tables"]).await?;
    assert_eq!(all.lines().filter(|line| line.starts_with("Cluster: ")).count(), 2, "{all}");
    assert!(all.contains("  - shop (orders)\n") && all.contains("  - shop (carts)\n"), "{all}");
    bed.assert_invariants().await
}

#[tokio::test]
async fn the_files_of_a_backup_are_those_in_the_bucket() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    let (task, first) = bed.backup(&["-K", "shop"]).await?;
    bed.cluster.write_rows("shop", "carts", 5)?;
    bed.cluster.flush("shop", "carts").await?;
    bed.cluster.compact("shop", "carts").await?;
    let second = bed.backup_again(&task, 2).await?;

    let mut seen = BTreeSet::new();
    for tag in [&first, &second] {
        let text = bed.sctool_ok(&["backup", "files", "-c", "test", "--snapshot-tag", tag]).await?;
        let prefix = format!("s3://{}/", bed.bucket);
        for line in text.lines() {
            let (path, table) = line.split_once(" \t ").unwrap_or_else(|| panic!("no delimiter in {line:?}"));
            assert!(
                table == "./"
                    || path.contains(&format!("/table/{}/", &table[table.find('/').unwrap_or(0) + 1..]))
            );
            seen.insert(path.strip_prefix(&prefix).unwrap_or(path).to_owned());
        }
    }
    let contents = bed.s3.contents(&bed.bucket).await?;
    let there: BTreeSet<String> = contents
        .keys_below("backup/")
        .filter(|key| !key.starts_with("backup/meta/"))
        .map(str::to_owned)
        .collect();
    let differs: Vec<&String> = seen.symmetric_difference(&there).collect();
    assert!(differs.is_empty(), "only in the list or only in the bucket: {differs:#?}");

    let flags = ["--snapshot-tag", &first, "-K", "shop.orders", "--delimiter", ";", "--with-version"];
    let text = bed.sctool_ok(&[&["backup", "files", "-c", "test"], &flags[..]].concat()).await?;
    let version =
        regex::Regex::new(r"^s3://\S+/table/orders/([0-9a-f]{32})/\S+ ; shop/orders-([0-9a-f]{32})$")?;
    // The schema belongs to the snapshot, whatever the tables.
    for line in text.lines().filter(|line| !line.ends_with(" ; ./")) {
        let found = version.captures(line).unwrap_or_else(|| panic!("{line:?}"));
        assert_eq!(found[1], found[2]);
    }
    assert!(text.lines().count() >= 2 * 2 * 8, "two SSTables on two nodes: {text}");

    // What the second backup shares stays when the first one goes.
    let before: BTreeSet<String> = there.into_iter().collect();
    let location = bed.location();
    let delete = ["backup", "delete", "-c", "test", "-L", &location, "--snapshot-tag", &first];
    assert_eq!(bed.sctool_ok(&delete).await?, "");
    assert_eq!(tags(&bed, &[]).await?, set(&[&second]));
    let after = bed.s3.contents(&bed.bucket).await?;
    let after: BTreeSet<String> = after.keys_below("backup/sst/").map(str::to_owned).collect();
    // Scylla's own manifests belong to a snapshot and go with it.
    let sstables = before.iter().filter(|key| key.contains("/sst/") && !key.ends_with("manifest.json"));
    let gone: Vec<&String> = sstables.filter(|key| !after.contains(*key)).collect();
    assert!(!gone.is_empty() && gone.iter().all(|key| key.contains("/table/carts/")), "{gone:?}");
    bed.assert_invariants().await
}
