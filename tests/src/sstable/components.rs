//! Names of SSTable component files: `<version>-<generation>-big-<component>`.

use std::fmt;
use std::str::FromStr;

use super::{Generation, InvalidGeneration};

/// On-disk format version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SstableVersion {
    Mc,
    Md,
    #[default]
    Me,
    /// Trie index: `Partitions.db` and `Rows.db` in place of `Index.db` and `Summary.db`.
    Ms,
    Mt,
}

impl SstableVersion {
    fn text(self) -> &'static str {
        match self {
            Self::Mc => "mc",
            Self::Md => "md",
            Self::Me => "me",
            Self::Ms => "ms",
            Self::Mt => "mt",
        }
    }

    /// Components of a complete SSTable, in the order its `TOC.txt` lists them.
    pub fn components(self, compressed: bool) -> Vec<Component> {
        let checksums = if compressed { Component::CompressionInfo } else { Component::Crc };
        let index = match self {
            Self::Mc | Self::Md | Self::Me => [Component::Summary, Component::Index],
            Self::Ms | Self::Mt => [Component::Partitions, Component::Rows],
        };
        vec![
            Component::Scylla,
            checksums,
            Component::Filter,
            Component::Data,
            index[0],
            index[1],
            Component::Digest,
            Component::Statistics,
            Component::Toc,
        ]
    }
}

impl fmt::Display for SstableVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Kind of a component file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    Data,
    Index,
    Summary,
    Partitions,
    Rows,
    Filter,
    Statistics,
    Scylla,
    CompressionInfo,
    Crc,
    Digest,
    Toc,
    /// Name of `TOC.txt` until the SSTable is sealed.
    TocTmp,
}

impl Component {
    const ALL: [Self; 13] = [
        Self::Data,
        Self::Index,
        Self::Summary,
        Self::Partitions,
        Self::Rows,
        Self::Filter,
        Self::Statistics,
        Self::Scylla,
        Self::CompressionInfo,
        Self::Crc,
        Self::Digest,
        Self::Toc,
        Self::TocTmp,
    ];

    /// The last part of the file name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Data => "Data.db",
            Self::Index => "Index.db",
            Self::Summary => "Summary.db",
            Self::Partitions => "Partitions.db",
            Self::Rows => "Rows.db",
            Self::Filter => "Filter.db",
            Self::Statistics => "Statistics.db",
            Self::Scylla => "Scylla.db",
            Self::CompressionInfo => "CompressionInfo.db",
            Self::Crc => "CRC.db",
            Self::Digest => "Digest.crc32",
            Self::Toc => "TOC.txt",
            Self::TocTmp => "TOC.txt.tmp",
        }
    }

    /// The component with this suffix, if we know it.
    pub fn from_suffix(suffix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.suffix() == suffix)
    }
}

/// Parsed name of one component file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SstableName {
    pub version: SstableVersion,
    pub generation: Generation,
    pub component: Component,
}

impl SstableName {
    pub fn new(version: SstableVersion, generation: Generation, component: Component) -> Self {
        Self { version, generation, component }
    }
}

impl fmt::Display for SstableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-big-{}", self.version, self.generation, self.component.suffix())
    }
}

/// The file name is not one of an SSTable component that this generator writes.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSstableName {
    #[error("{0:?} is not <version>-<generation>-big-<component>")]
    Shape(String),
    #[error(transparent)]
    Generation(#[from] InvalidGeneration),
}

impl FromStr for SstableName {
    type Err = InvalidSstableName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let shape = || InvalidSstableName::Shape(name.to_owned());
        let (version, rest) = name.split_once('-').ok_or_else(shape)?;
        let (generation, suffix) = rest.split_once("-big-").ok_or_else(shape)?;
        let version = match version {
            "mc" => SstableVersion::Mc,
            "md" => SstableVersion::Md,
            "me" => SstableVersion::Me,
            "ms" => SstableVersion::Ms,
            "mt" => SstableVersion::Mt,
            _ => return Err(shape()),
        };
        let component = Component::from_suffix(suffix).ok_or_else(shape)?;
        Ok(Self { version, generation: generation.parse()?, component })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in
            ["me-3-big-Data.db", "me-3gsm_0lob_1zdg02we44my8dy25w-big-Digest.crc32", "mc-1-big-TOC.txt.tmp"]
        {
            assert_eq!(name.parse::<SstableName>().unwrap().to_string(), name);
        }
        for name in
            ["manifest.json", "me-3-big-Data.db.sm_20210809095542UTC", "xx-3-big-Data.db", "me-a-big-Data.db"]
        {
            assert!(name.parse::<SstableName>().is_err(), "{name}");
        }
    }
}
