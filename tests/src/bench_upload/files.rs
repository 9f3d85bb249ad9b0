//! The files of the benchmark: shaped like the SSTables of four tables.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use rand::{Rng as _, RngCore as _, SeedableRng as _};

/// Components besides `Data.db`.
const COMPONENTS: [&str; 8] = [
    "CompressionInfo.db",
    "Digest.crc32",
    "Filter.db",
    "Index.db",
    "Scylla.db",
    "Statistics.db",
    "Summary.db",
    "TOC.txt",
];

/// How many files, and how large.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub tables: usize,
    pub data_files: usize,
    pub data_bytes: u64,
    pub small_files: usize,
    pub small_bytes: (u64, u64),
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            tables: 4,
            data_files: 16,
            data_bytes: 100 << 20,
            small_files: 2000,
            small_bytes: (1024, 65536),
        }
    }
}

/// Directory of a table's files, and of their hard links that are sent.
pub(super) fn tables(dir: &Path) -> Vec<(PathBuf, PathBuf)> {
    let count = Shape::default().tables;
    (0..count).map(|t| (dir.join(format!("base/{t}")), dir.join(format!("snapshot/{t}")))).collect()
}

/// Writes the files, with true digests.
pub(super) fn make(dir: &Path, shape: &Shape) -> anyhow::Result<()> {
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let mut block = vec![0; 1 << 20];
    rng.fill_bytes(&mut block);
    let (data_files, small_files) = (shape.data_files / shape.tables, shape.small_files / shape.tables);
    for (base, _) in tables(dir) {
        std::fs::create_dir_all(&base)?;
        let name = |sstable: usize, component: &str| base.join(format!("me-{sstable}-big-{component}"));
        let mut digests = Vec::new();
        for sstable in 0..data_files {
            digests.push(write(&name(sstable, "Data.db"), shape.data_bytes, &mut block, &mut rng)?);
        }
        for file in 0..small_files {
            let (sstable, component) = (file / COMPONENTS.len(), COMPONENTS[file % COMPONENTS.len()]);
            match digests.get(sstable).filter(|_| component == "Digest.crc32") {
                Some(digest) => std::fs::write(name(sstable, component), digest.to_string())?,
                None => {
                    let bytes = rng.random_range(shape.small_bytes.0..=shape.small_bytes.1);
                    write(&name(sstable, component), bytes, &mut block, &mut rng)?;
                }
            }
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: u64, block: &mut [u8], rng: &mut impl rand::RngCore) -> anyhow::Result<u32> {
    let mut file = File::create(path)?;
    let mut crc32 = crc32fast::Hasher::new();
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left)?.min(block.len());
        rng.fill_bytes(&mut block[..8]);
        file.write_all(&block[..length])?;
        crc32.update(&block[..length]);
        left -= length as u64;
    }
    // Pages that are still to be written could not be handed back.
    file.sync_all()?;
    Ok(crc32.finalize())
}

/// Makes the hard links anew and reads every file once.
pub(super) fn snapshot(dir: &Path) -> anyhow::Result<()> {
    let mut block = vec![0; 1 << 20];
    for (base, snapshot) in tables(dir) {
        if snapshot.exists() {
            std::fs::remove_dir_all(&snapshot)?;
        }
        std::fs::create_dir_all(&snapshot)?;
        for entry in std::fs::read_dir(base)? {
            let path = entry?.path();
            let Some(name) = path.file_name() else { continue };
            std::fs::hard_link(&path, snapshot.join(name))?;
            let mut file = File::open(&path)?;
            while file.read(&mut block)? > 0 {}
        }
    }
    Ok(())
}

/// Files to be sent and their sizes.
pub(super) fn list(dir: &Path) -> anyhow::Result<Vec<(PathBuf, u64)>> {
    let mut all = Vec::new();
    for (_, snapshot) in tables(dir) {
        for entry in std::fs::read_dir(snapshot)? {
            let entry = entry?;
            all.push((entry.path(), entry.metadata()?.len()));
        }
    }
    Ok(all)
}
