//! Reading of strict YAML files: an unknown key is an error that names file, line and key.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserializer;
use serde::de::DeserializeOwned;
use serde_yaml_ng::Value;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file exists but cannot be read.
    #[error("read configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Not YAML, an unknown key, or a value of the wrong type. The cause names line and column.
    #[error("configuration file {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// Each file is fine, but together they are not.
    #[error("merged configuration")]
    Merged {
        /// What is wrong.
        #[source]
        source: serde_yaml_ng::Error,
    },
}

/// Reads and merges YAML files, later ones winning key by key. Files that do not exist are skipped.
///
/// `T` should carry `#[serde(default, deny_unknown_fields)]` at each level. Every file is checked on its own
/// first, so that an error can name the file and the line. A section without content (`s3:`) counts as absent.
///
/// # Errors
/// The first file that cannot be read or is not valid.
pub fn read_yaml_files<T: DeserializeOwned>(paths: &[PathBuf]) -> Result<T, ConfigError> {
    let mut merged = Value::Mapping(serde_yaml_ng::Mapping::new());
    for path in paths {
        let Some(text) = read_optional(path)? else { continue };
        merge(&mut merged, check::<T>(path, &text)?);
    }
    serde_yaml_ng::from_value(merged).map_err(|source| ConfigError::Merged { source })
}

fn read_optional(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
    }
}

/// Parses one file into a value tree, and into `T` for its errors, which carry the position.
fn check<T: DeserializeOwned>(path: &Path, text: &str) -> Result<Value, ConfigError> {
    let failed = |source| ConfigError::Parse { path: path.to_owned(), source };
    let mut tree: Value = serde_yaml_ng::from_str(text).map_err(failed)?;
    let had_empty_section = drop_nulls(&mut tree);
    if tree.is_null() {
        return Ok(tree);
    }
    // A present but empty section cannot be parsed from the text as it stands; then the tree is checked,
    // at the price of the line number.
    if had_empty_section && serde_yaml_ng::from_str::<T>(text).is_err() {
        serde_yaml_ng::from_value::<T>(tree.clone()).map_err(failed)?;
    } else {
        serde_yaml_ng::from_str::<T>(text).map_err(failed)?;
    }
    Ok(tree)
}

/// Removes keys without a value at the top level; says whether there were any.
fn drop_nulls(tree: &mut Value) -> bool {
    let Value::Mapping(map) = tree else { return false };
    let before = map.len();
    map.retain(|_, value| !value.is_null());
    map.len() != before
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (_, Value::Null) => {}
        (Value::Mapping(into), Value::Mapping(from)) => {
            for (key, value) in from {
                match into.get_mut(&key) {
                    Some(old) => merge(old, value),
                    None => {
                        into.insert(key, value);
                    }
                }
            }
        }
        (into, from) => *into = from,
    }
}

/// Hides a secret in a log: the same length in `*`.
pub fn mask(secret: &str) -> String {
    "*".repeat(secret.chars().count())
}

/// Reads a text; numbers and booleans without quotes count as the text they were written as.
pub fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Text;

    impl serde::de::Visitor<'_> for Text {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }
        fn visit_str<E>(self, v: &str) -> Result<String, E> {
            Ok(v.to_owned())
        }
        fn visit_bool<E>(self, v: bool) -> Result<String, E> {
            Ok(v.to_string())
        }
        fn visit_i64<E>(self, v: i64) -> Result<String, E> {
            Ok(v.to_string())
        }
        fn visit_u64<E>(self, v: u64) -> Result<String, E> {
            Ok(v.to_string())
        }
        // A float has lost how it was written, so it could silently become another key or token.
        fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<String, E> {
            Err(E::custom("a number with a fraction or an exponent must be quoted here"))
        }
        fn visit_unit<E>(self) -> Result<String, E> {
            Ok(String::new())
        }
    }

    deserializer.deserialize_any(Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Outer {
        a: u32,
        s3: Inner,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        region: String,
        endpoint: String,
    }

    fn files(texts: &[&str]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let paths = texts.iter().enumerate().map(|(i, text)| {
            let path = dir.path().join(format!("{i}.yaml"));
            std::fs::write(&path, text).unwrap();
            path
        });
        let paths = paths.collect();
        (dir, paths)
    }

    #[test]
    fn later_files_win_key_by_key() {
        let (_dir, mut paths) =
            files(&["a: 1\ns3:\n  region: x\n  endpoint: y\n", "s3:\n  region: z\n", "# nothing\n"]);
        paths.push("/nonexistent/file.yaml".into());
        let config: Outer = read_yaml_files(&paths).unwrap();
        assert_eq!(config, Outer { a: 1, s3: Inner { region: "z".into(), endpoint: "y".into() } });
    }

    #[test]
    fn empty_section_means_defaults() {
        let (_dir, paths) = files(&["a: 2\ns3:\n  # region: x\n"]);
        assert_eq!(read_yaml_files::<Outer>(&paths).unwrap().a, 2);
    }

    #[test]
    fn unknown_keys_are_named_with_file_and_line() {
        let (_dir, paths) = files(&["a: 1\ns3:\n  regoin: x\n"]);
        let text = crate::error::chain(&read_yaml_files::<Outer>(&paths).unwrap_err());
        assert!(text.contains("0.yaml") && text.contains("regoin") && text.contains("line 3"), "{text}");
    }
}
