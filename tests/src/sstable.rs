//! Writes and reads simulated SSTables: every component file a real node writes, with a true digest.
//!
//! The bytes of `Data.db` are ours (rows in the clear, then filling), so a test can read back from any
//! uploaded copy which rows it holds. Everything the backup looks at is genuine: names, sizes, `TOC.txt`
//! and `Digest.crc32`. The same [`SstableSpec`] always gives the same bytes.

mod components;
mod content;
mod generation;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use components::{Component, SstableName, SstableVersion};
pub use content::{DataHeader, Row, merge_rows, read_header, read_rows};
pub use generation::{Generation, InvalidGeneration};

/// What fills `Data.db` up to the wanted size, after the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// Pseudo-random bytes: does not compress, takes real disk space.
    #[default]
    Noise,
    /// A hole: files of many GiB at once, on file systems with sparse files.
    Sparse,
}

/// Everything that decides the bytes of one SSTable.
#[derive(Clone, Debug)]
pub struct SstableSpec {
    pub version: SstableVersion,
    pub generation: Generation,
    /// Rows, in any order; written sorted by token.
    pub rows: Vec<Row>,
    /// Bytes of filling after the rows.
    pub fill_bytes: u64,
    pub fill: Fill,
    /// Compressed tables have `CompressionInfo.db`, the others `CRC.db`.
    pub compressed: bool,
    /// Changes content without changing any size.
    pub nonce: u64,
    /// Number of decimal digits the digest must have, so that a rewrite can keep the size of
    /// `Digest.crc32` too. The nonce is raised until it fits.
    pub digest_digits: Option<usize>,
}

impl SstableSpec {
    /// A small compressed SSTable of the given rows.
    pub fn new(version: SstableVersion, generation: Generation, rows: Vec<Row>) -> Self {
        Self {
            version,
            generation,
            rows,
            fill_bytes: 0,
            fill: Fill::Noise,
            compressed: true,
            nonce: 0,
            digest_digits: None,
        }
    }

    /// Fills `Data.db` up to `bytes`; rows that need more keep what they need.
    #[must_use]
    pub fn data_size(mut self, bytes: u64) -> Self {
        self.fill_bytes = bytes.saturating_sub(content::data_len(&self.rows, 0));
        self
    }
}

/// One SSTable on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sstable {
    pub version: SstableVersion,
    pub generation: Generation,
    /// Directory of the component files.
    pub dir: PathBuf,
    pub components: Vec<Component>,
}

impl Sstable {
    /// Full path of one component, which need not exist.
    pub fn path(&self, component: Component) -> PathBuf {
        self.dir.join(SstableName::new(self.version, self.generation, component).to_string())
    }

    /// Paths of all components.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.components.iter().map(|c| self.path(*c))
    }

    /// Bytes of all components.
    pub fn size(&self) -> io::Result<u64> {
        self.paths().map(|path| Ok(fs::metadata(path)?.len())).sum()
    }

    /// The decimal text of `Digest.crc32`.
    pub fn digest(&self) -> io::Result<String> {
        fs::read_to_string(self.path(Component::Digest))
    }

    /// True once `TOC.txt` exists: from then on the files never change.
    pub fn is_sealed(&self) -> bool {
        self.components.contains(&Component::Toc)
    }
}

/// Writes all components of `spec` into `dir`, `TOC.txt` last, as Scylla seals an SSTable.
///
/// # Errors
/// Any failure of the file system; the unsealed files stay, as after a crash.
pub fn write(dir: &Path, spec: &SstableSpec) -> io::Result<Sstable> {
    let components = spec.version.components(spec.compressed);
    let sstable =
        Sstable { version: spec.version, generation: spec.generation, dir: dir.to_owned(), components };
    let toc: String = sstable.components.iter().map(|c| format!("{}\n", c.suffix())).collect();
    let unsealed = sstable.path(Component::TocTmp);
    fs::write(&unsealed, &toc)?;
    let data = content::write_data(&sstable.path(Component::Data), spec)?;
    for component in sstable.components.iter().copied() {
        match component {
            Component::Data | Component::Toc | Component::TocTmp => {}
            Component::Digest => fs::write(sstable.path(component), data.crc32.to_string())?,
            other => fs::write(sstable.path(other), content::component(other, spec, &data))?,
        }
    }
    fs::rename(&unsealed, sstable.path(Component::Toc))?;
    Ok(sstable)
}

/// SSTables in `dir` ordered by generation, unsealed ones included; other files are ignored.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(dir: &Path) -> io::Result<Vec<Sstable>> {
    let mut found: std::collections::BTreeMap<(Generation, SstableVersion), Vec<Component>> =
        std::collections::BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().and_then(|n| n.parse::<SstableName>().ok()) else { continue };
        found.entry((name.generation, name.version)).or_default().push(name.component);
    }
    Ok(found
        .into_iter()
        .map(|((generation, version), mut components)| {
            components.sort();
            Sstable { version, generation, dir: dir.to_owned(), components }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: u32) -> Vec<Row> {
        (0..count)
            .map(|i| Row { key: format!("key-{i}").into(), value: format!("value {i}").into(), timestamp: 7 })
            .collect()
    }

    #[test]
    fn digest_is_the_decimal_crc32_of_data() {
        let dir = tempfile::tempdir().unwrap();
        for (generation, size) in [(1, 0), (2, 5_000), (3, 3_000_000)] {
            let spec = SstableSpec::new(SstableVersion::Me, Generation::Integer(generation), rows(5));
            let sstable = write(dir.path(), &spec.data_size(size)).unwrap();
            let data = fs::read(sstable.path(Component::Data)).unwrap();
            assert_eq!(sstable.digest().unwrap(), crc32fast::hash(&data).to_string());
            assert!(data.len() as u64 >= size);
            let mut expected = rows(5);
            expected.sort_by_key(|r| crate::cluster::token_of(&r.key));
            assert_eq!(read_rows(&sstable.path(Component::Data)).unwrap(), expected);
        }
    }

    #[test]
    fn a_hole_has_the_digest_of_its_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = SstableSpec::new(SstableVersion::Me, Generation::Integer(1), rows(2));
        spec.fill = Fill::Sparse;
        let sstable = write(dir.path(), &spec.data_size((3 << 20) + 777)).unwrap();
        let data = fs::read(sstable.path(Component::Data)).unwrap();
        assert_eq!(data.len(), (3 << 20) + 777);
        assert_eq!(sstable.digest().unwrap(), crc32fast::hash(&data).to_string());
    }

    #[test]
    fn toc_names_exactly_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let cases = [
            (SstableVersion::Mc, true, 9),
            (SstableVersion::Me, true, 9),
            (SstableVersion::Me, false, 9),
            (SstableVersion::Ms, true, 9),
        ];
        for (n, (version, compressed, count)) in cases.into_iter().enumerate() {
            let mut spec = SstableSpec::new(version, Generation::Integer(n as u64 + 1), rows(1));
            spec.compressed = compressed;
            let sstable = write(dir.path(), &spec).unwrap();
            let toc = fs::read_to_string(sstable.path(Component::Toc)).unwrap();
            let mut named: Vec<_> = toc.lines().map(str::to_owned).collect();
            named.sort();
            let prefix = format!("{version}-{}-big-", spec.generation);
            let mut present: Vec<_> = fs::read_dir(dir.path())
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned))
                .collect();
            present.sort();
            assert_eq!(named, present, "{version}");
            assert_eq!(named.len(), count, "{version}");
        }
    }

    #[test]
    fn a_nonce_changes_bytes_but_no_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = SstableSpec::new(SstableVersion::Me, Generation::Integer(4), rows(9)).data_size(9_000);
        let first = write(dir.path(), &spec).unwrap();
        let sizes = |s: &Sstable| s.paths().map(|p| fs::metadata(p).unwrap().len()).collect::<Vec<_>>();
        let (digest, before) = (first.digest().unwrap(), sizes(&first));
        spec.nonce = 1;
        spec.digest_digits = Some(digest.len());
        let second = write(dir.path(), &spec).unwrap();
        assert_eq!(sizes(&second), before);
        assert_ne!(second.digest().unwrap(), digest);
    }

    #[test]
    fn listing_groups_components_and_tells_unsealed_ones() {
        let dir = tempfile::tempdir().unwrap();
        let uuid = Generation::from_time(1_742_860_800, 12_345, 0x8000_0000_0000_0001);
        write(dir.path(), &SstableSpec::new(SstableVersion::Me, Generation::Integer(2), rows(1))).unwrap();
        write(dir.path(), &SstableSpec::new(SstableVersion::Ms, uuid, rows(1))).unwrap();
        fs::write(dir.path().join("md-7-big-TOC.txt.tmp"), "").unwrap();
        fs::write(dir.path().join("manifest.json"), "{}").unwrap();
        let listed: Vec<_> =
            list(dir.path()).unwrap().into_iter().map(|s| (s.generation, s.is_sealed())).collect();
        assert_eq!(listed, [(Generation::Integer(2), true), (Generation::Integer(7), false), (uuid, true)]);
    }

    /// Our files look like those of a real node: same component sets per version, digest as bare decimal.
    #[test]
    fn real_sstables_have_the_same_shape() {
        let Some(fixtures) = std::env::var_os("UPSTREAM_FIXTURES") else {
            println!("skipped: UPSTREAM_FIXTURES is not set");
            return;
        };
        let dir = Path::new(&fixtures).join("sstables/mixed_generation_type");
        let real = list(&dir).unwrap();
        assert_eq!(real.len(), 3);
        for sstable in real {
            let mut ours = sstable.version.components(true);
            ours.sort();
            assert_eq!(sstable.components, ours, "{}", sstable.generation);
            let data = fs::read(sstable.path(Component::Data)).unwrap();
            assert_eq!(sstable.digest().unwrap(), crc32fast::hash(&data).to_string());
            let toc = fs::read_to_string(sstable.path(Component::Toc)).unwrap();
            assert!(toc.ends_with('\n') && toc.lines().all(|l| Component::from_suffix(l).is_some()));
        }
    }
}
