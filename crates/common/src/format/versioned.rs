//! Older copies of a file: `X.<tag>` beside plain `X` (spec backup-format.md 1.4).
//!
//! `X.<T>` is the content for every snapshot *older* than `T`; plain `X` is the newest content. Manifests
//! list unversioned names only.

use crate::snapshot_tag::SnapshotTag;

/// Splits a remote name into the plain name and the tag that replaced it, if it has one.
pub fn split(name: &str) -> (&str, Option<SnapshotTag>) {
    match name.rsplit_once('.') {
        Some((plain, extension)) => match extension.parse() {
            Ok(tag) => (plain, Some(tag)),
            Err(_) => (name, None),
        },
        None => (name, None),
    }
}

/// The name of the copy that was set aside when the snapshot `tag` brought other content.
pub fn join(plain: &str, tag: SnapshotTag) -> String {
    format!("{plain}.{tag}")
}

/// Picks the copy that holds a file as it was in `snapshot`, among the tags of its older copies.
///
/// `None` means plain `X`; whether that exists the caller must know.
pub fn resolve(
    snapshot: SnapshotTag,
    older_copies: impl IntoIterator<Item = SnapshotTag>,
) -> Option<SnapshotTag> {
    older_copies.into_iter().filter(|replaced_by| *replaced_by > snapshot).min()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn tag(second: u32) -> SnapshotTag {
        SnapshotTag::at(chrono::DateTime::from_timestamp(1_700_000_000 + i64::from(second), 0).unwrap())
    }

    #[test]
    fn names_split_at_a_tag_only() {
        let t = "sm_20210809095542UTC".parse().unwrap();
        for (name, expected) in [
            ("mc-5-big-Data.db", ("mc-5-big-Data.db", None)),
            ("mc-5-big-Data.db.sm_20210809095542UTC", ("mc-5-big-Data.db", Some(t))),
            ("mc-5-big-Data.db.sm_2021UTC", ("mc-5-big-Data.db.sm_2021UTC", None)),
            ("plain", ("plain", None)),
            (".sm_20210809095542UTC", ("", Some(t))),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
        assert_eq!(split(&join("x.db", t)), ("x.db", Some(t)));
    }

    proptest! {
        /// U4: whatever sequence of contents a name went through, each snapshot finds its own.
        #[test]
        fn every_snapshot_finds_its_bytes(contents in prop::collection::vec(0..3_u8, 1..12)) {
            let mut plain: Option<u8> = None;
            let mut older = BTreeMap::new();
            let mut taken = Vec::new();
            for (second, content) in contents.into_iter().enumerate() {
                let now = tag(u32::try_from(second).unwrap());
                if let Some(old) = plain.filter(|old| *old != content) {
                    older.insert(now, old);
                }
                plain = Some(content);
                taken.push((now, content));
            }
            for (snapshot, content) in taken {
                let found = resolve(snapshot, older.keys().copied()).map_or(plain, |t| older.get(&t).copied());
                prop_assert_eq!(found, Some(content));
            }
        }
    }
}
