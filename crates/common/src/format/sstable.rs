//! Names of SSTable components (spec backup-format.md 1.5).

use std::sync::LazyLock;

use regex::Regex;

/// What kind of generation ID an SSTable has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdKind {
    /// A counter. It may start over after data loss, so the same name may hold other content later.
    Integer,
    /// Unique for ever.
    Uuid,
}

/// A component file name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ComponentName<'a> {
    /// Generation ID: shared by all components of one SSTable.
    pub id: &'a str,
    /// The last part, e.g. `Data.db`.
    pub component: &'a str,
}

/// Formats la, mc, md, me, ms, mt with any ID.
static CURRENT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:la|m[cdest])-(?P<id>[^-]+)-\w+-(?P<component>.*)"));
/// Format ka: the names of keyspace and table come first.
static KA: LazyLock<Regex> = LazyLock::new(|| pattern(r"\w+-\w+-ka-(?P<id>\d+)-(?P<component>.*)"));
/// Any other two-letter format with a UUID ID.
static FUTURE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"[A-Za-z]{2}-(?P<id>[0-9a-z]{4}_[0-9a-z]{4}_[0-9a-z]{18})-\w+-(?P<component>.*)")
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant that the tests compile")
}

impl<'a> ComponentName<'a> {
    /// Reads a file name; `None` when it is not a component of an SSTable.
    pub fn parse(name: &'a str) -> Option<Self> {
        let groups = [&CURRENT, &KA, &FUTURE].into_iter().find_map(|p| p.captures(name))?;
        Some(Self { id: groups.name("id")?.as_str(), component: groups.name("component")?.as_str() })
    }

    /// Kind of the ID: a number, or anything else.
    pub fn kind(&self) -> IdKind {
        if self.id.parse::<u64>().is_ok() { IdKind::Integer } else { IdKind::Uuid }
    }
}

/// Whether the file holds the data of an SSTable, the one component with a digest of its own.
pub fn is_data(name: &str) -> bool {
    name.ends_with("-Data.db")
}

/// Whether the file holds the digest of an SSTable's data.
pub fn is_digest(name: &str) -> bool {
    name.ends_with("Digest.crc32")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_names() {
        for (name, expected) in [
            ("mc-7-big-TOC.txt", Some(("7", "TOC.txt", IdKind::Integer))),
            (
                "me-3g7k_098r_4wtqo2asamoc1i8h9n-big-Data.db",
                Some(("3g7k_098r_4wtqo2asamoc1i8h9n", "Data.db", IdKind::Uuid)),
            ),
            ("ms-12-big-Partitions.db", Some(("12", "Partitions.db", IdKind::Integer))),
            ("la-4-big-Digest.sha1", Some(("4", "Digest.sha1", IdKind::Integer))),
            ("ks-tab-ka-3-Data.db", Some(("3", "Data.db", IdKind::Integer))),
            (
                "xz-3g7k_098r_4wtqo2asamoc1i8h9n-big-Data.db",
                Some(("3g7k_098r_4wtqo2asamoc1i8h9n", "Data.db", IdKind::Uuid)),
            ),
            ("xz-7-big-Data.db", None),
            ("manifest.json", None),
            ("schema.cql", None),
            ("", None),
        ] {
            let found = ComponentName::parse(name).map(|c| (c.id, c.component, c.kind()));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn real_sstables_are_recognised() {
        let Some(root) = std::env::var_os("UPSTREAM_FIXTURES") else {
            eprintln!("skipped: UPSTREAM_FIXTURES is not set");
            return;
        };
        let mut dirs = vec![std::path::PathBuf::from(root).join("sstables")];
        let mut seen = 0;
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(entry.path());
                } else if name.ends_with(".db") {
                    assert!(ComponentName::parse(&name).is_some(), "{name}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 0);
    }

    proptest! {
        #[test]
        fn all_components_share_the_id(id in "([0-9]{1,6}|[0-9a-z]{4}_[0-9a-z]{4}_[0-9a-z]{18})", format in "m[cdest]") {
            for component in ["Data.db", "Index.db", "TOC.txt", "Digest.crc32"] {
                let name = format!("{format}-{id}-big-{component}");
                let parsed = ComponentName::parse(&name).unwrap();
                prop_assert_eq!((parsed.id, parsed.component), (id.as_str(), component));
            }
        }
    }
}
