//! `--dc-mapping` and the file of `--nodes-mapping` (spec/sctool.md 1.6, 2.8).

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;

use crate::values::Csv;

/// Source to target datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DcMapping(pub BTreeMap<String, String>);

#[derive(Debug, thiserror::Error)]
#[error("{0} must be formatted as key=value")]
pub struct InvalidMapping(String);

impl FromStr for DcMapping {
    type Err = InvalidMapping;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pairs = text.parse::<Csv<String>>().map_err(|_| InvalidMapping(text.to_owned()))?;
        let split = |pair: &String| {
            let (key, value) = pair.split_once('=').ok_or_else(|| InvalidMapping(pair.clone()))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        pairs.0.iter().map(split).collect::<Result<_, _>>().map(Self)
    }
}

/// A node of either cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MappedNode {
    dc: String,
    rack: String,
    host_id: String,
}

/// A node and its counterpart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodePair {
    source: MappedNode,
    target: MappedNode,
}

/// The contents of a mapping file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct NodesMapping(Vec<NodePair>);

#[derive(Debug, thiserror::Error)]
pub enum InvalidNodes {
    #[error("open a file: {0}")]
    Read(std::io::Error),
    #[error("source and target mappings must be split by '='")]
    NoPair,
    #[error("invalid node format, must be <dc>:<rack>:<host_id>")]
    Node,
}

impl FromStr for NodesMapping {
    type Err = InvalidNodes;

    /// Reads the file of that name.
    fn from_str(path: &str) -> Result<Self, Self::Err> {
        parse_lines(&std::fs::read_to_string(path).map_err(InvalidNodes::Read)?)
    }
}

fn parse_lines(text: &str) -> Result<NodesMapping, InvalidNodes> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let pair = |line: &str| {
        let (source, target) = line.split_once('=').ok_or(InvalidNodes::NoPair)?;
        Ok(NodePair { source: node(source)?, target: node(target)? })
    };
    lines.map(pair).collect::<Result<_, _>>().map(NodesMapping)
}

fn node(text: &str) -> Result<MappedNode, InvalidNodes> {
    match text.split(':').map(str::trim).collect::<Vec<_>>()[..] {
        [dc, rack, host_id] if ![dc, rack, host_id].contains(&"") => {
            Ok(MappedNode { dc: dc.to_owned(), rack: rack.to_owned(), host_id: host_id.to_owned() })
        }
        _ => Err(InvalidNodes::Node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_key_value_lists() {
        let mapping: DcMapping = "dc1=a,dc2=b".parse().expect("valid");
        assert_eq!(mapping.0.get("dc2").map(String::as_str), Some("b"));
        let error = "dc1".parse::<DcMapping>().expect_err("no value");
        assert_eq!(error.to_string(), "dc1 must be formatted as key=value");
    }

    #[test]
    fn node_lines_name_source_and_target() {
        let mapping = parse_lines("dc1:r1:h1 = dc2 : r2 : h2\n\n").expect("valid");
        let json = serde_json::to_string(&mapping).expect("plain data");
        assert_eq!(
            json,
            r#"[{"source":{"dc":"dc1","rack":"r1","host_id":"h1"},"target":{"dc":"dc2","rack":"r2","host_id":"h2"}}]"#
        );
        for (text, expected) in [
            ("dc1:r1:h1", "source and target mappings must be split by '='"),
            ("dc1:r1=dc1:r1:h1", "invalid node format, must be <dc>:<rack>:<host_id>"),
        ] {
            assert_eq!(parse_lines(text).expect_err(text).to_string(), expected);
        }
        let error = "/no/such/file".parse::<NodesMapping>().expect_err("missing").to_string();
        assert!(error.starts_with("open a file: "), "{error}");
    }
}
