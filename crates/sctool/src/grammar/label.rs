//! Label changes: `key=value` sets, `key-` removes (spec/sctool.md 3.7).

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::values::Csv;

/// The value of one `--label`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelChange {
    set: BTreeMap<String, String>,
    remove: BTreeSet<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum InvalidLabel {
    #[error("unknown label spec, label must be formatted as either key=value, or key-: {0}")]
    Spec(String),
    #[error("can not both modify and remove a label in the same command")]
    Conflict,
    #[error("label list has broken quoting: {0}")]
    Quote(String),
}

impl LabelChange {
    /// Applies the change to stored labels.
    pub fn apply(&self, labels: &mut BTreeMap<String, String>) {
        labels.retain(|key, _| !self.remove.contains(key));
        labels.extend(self.set.iter().map(|(key, value)| (key.clone(), value.clone())));
    }

    /// Joins several `--label` flags; the original keeps only the last one.
    pub fn merged(changes: &[LabelChange]) -> Result<Self, InvalidLabel> {
        let mut all = Self::default();
        for change in changes {
            all.set.extend(change.set.clone());
            all.remove.extend(change.remove.iter().cloned());
        }
        all.checked()
    }

    fn checked(self) -> Result<Self, InvalidLabel> {
        if self.remove.iter().any(|key| self.set.contains_key(key)) {
            return Err(InvalidLabel::Conflict);
        }
        Ok(self)
    }
}

impl FromStr for LabelChange {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let specs = text.parse::<Csv<String>>().map_err(|_| InvalidLabel::Quote(text.to_owned()))?;
        let mut change = Self::default();
        for spec in specs.0 {
            let parts: Vec<&str> = spec.split('=').collect();
            match (parts.as_slice(), spec.strip_suffix('-')) {
                ([key, value], _) if !key.is_empty() => {
                    change.set.insert((*key).to_owned(), (*value).to_owned());
                }
                ([_], Some(key)) if !key.is_empty() => {
                    change.remove.insert(key.to_owned());
                }
                _ => return Err(InvalidLabel::Spec(spec)),
            }
        }
        change.checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_removes() {
        let mut labels =
            BTreeMap::from([("old".to_owned(), "1".to_owned()), ("env".to_owned(), "test".to_owned())]);
        let change: LabelChange = "env=prod,old-,\"note=a,b\"".parse().expect("valid");
        change.apply(&mut labels);
        assert_eq!(
            labels,
            BTreeMap::from([("env".to_owned(), "prod".to_owned()), ("note".to_owned(), "a,b".to_owned())])
        );
    }

    #[test]
    fn refuses_other_forms() {
        for (text, expected) in [
            ("env", "unknown label spec, label must be formatted as either key=value, or key-: env"),
            ("a=b=c", "unknown label spec, label must be formatted as either key=value, or key-: a=b=c"),
            ("-", "unknown label spec, label must be formatted as either key=value, or key-: -"),
            ("a=1,a-", "can not both modify and remove a label in the same command"),
        ] {
            assert_eq!(text.parse::<LabelChange>().expect_err(text).to_string(), expected);
        }
    }
}
