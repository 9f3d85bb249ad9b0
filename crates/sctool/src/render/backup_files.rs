//! Files of a backup, one per line (spec/sctool.md 4.5).

use std::collections::BTreeSet;

use common::api::manager::{BackupFilesInfo, TableFiles};
use common::location::Location;

/// Schema files first, each once, then the files of all tables.
pub fn render(manifests: &[BackupFilesInfo], delimiter: &str, with_version: bool) -> String {
    let mut out = String::new();
    let mut seen = BTreeSet::new();
    for manifest in manifests.iter().filter(|manifest| !manifest.schema.is_empty()) {
        let path = url(&manifest.location, &manifest.schema);
        if seen.insert(path.clone()) {
            out.push_str(&format!("{path} {delimiter} ./\n"));
        }
    }
    for manifest in manifests {
        for table in &manifest.files {
            table_lines(&mut out, &manifest.location, table, delimiter, with_version);
        }
    }
    out
}

fn table_lines(
    out: &mut String,
    location: &Location,
    table: &TableFiles,
    delimiter: &str,
    with_version: bool,
) {
    let version = if with_version { format!("-{}", table.version) } else { String::new() };
    let directory = url(location, table.path.trim_end_matches('/'));
    for file in table.files.iter().chain(&table.scylla_manifests) {
        out.push_str(&format!(
            "{directory}/{file} {delimiter} {}/{}{version}\n",
            table.keyspace, table.table
        ));
    }
}

/// `s3://bucket/key`; the datacenter of a location is no part of it.
fn url(location: &Location, key: &str) -> String {
    format!("{}://{}/{}", location.provider(), location.bucket(), key.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_first_then_tables() {
        let manifests: Vec<BackupFilesInfo> = serde_json::from_str(
            r#"[{"location":"berlin:s3:orders-backups","schema":"backup/schema/cluster/c/t_schema.json.gz","files":[
                 {"keyspace":"orders","table":"invoices","version":"5bc52802de2535edaeab188eecebb090",
                  "files":["me-1-big-Data.db","me-1-big-TOC.txt"],"path":"backup/sst/keyspace/orders/table/invoices/v"}]},
                {"location":"s3:orders-backups","schema":"backup/schema/cluster/c/t_schema.json.gz","files":[]}]"#,
        )
        .expect("manifests");
        insta::assert_snapshot!(render(&manifests, "\t", false).replace('\t', "<TAB>"), @"
        s3://orders-backups/backup/schema/cluster/c/t_schema.json.gz <TAB> ./
        s3://orders-backups/backup/sst/keyspace/orders/table/invoices/v/me-1-big-Data.db <TAB> orders/invoices
        s3://orders-backups/backup/sst/keyspace/orders/table/invoices/v/me-1-big-TOC.txt <TAB> orders/invoices
        ");
        assert!(
            render(&manifests, ";", true)
                .contains("Data.db ; orders/invoices-5bc52802de2535edaeab188eecebb090\n")
        );
    }
}
