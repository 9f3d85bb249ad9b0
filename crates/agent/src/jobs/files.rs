//! What a job did with each file, kept compactly until the manager has read it (spec agent.md 4a, `job-files`).
//!
//! 32 bytes and the name per file: 100,000 files with names of 45 bytes take below 8 MiB.

use std::collections::BTreeMap;

use common::api::agent::{FileOutcome, JobFile, JobFilesPage};

/// Files of one page.
pub const PAGE: usize = 10_000;
/// Longest error text that is kept per file, bytes.
const MAX_ERROR: usize = 1024;
/// Errors kept with their text; later ones keep only the outcome, so that a broken network cannot fill the memory.
const MAX_ERRORS: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Record {
    name_end: u64,
    size: u64,
    crc32: Option<u32>,
    outcome: FileOutcome,
    digest_mismatch: bool,
}

/// The files of one job in the order in which they were finished.
#[derive(Debug, Default)]
pub struct FileLog {
    names: String,
    records: Vec<Record>,
    errors: BTreeMap<usize, String>,
}

impl FileLog {
    /// Adds a finished file.
    pub fn push(&mut self, file: &JobFile) {
        if !file.error.is_empty() && self.errors.len() < MAX_ERRORS {
            let end = file.error.floor_char_boundary(MAX_ERROR);
            self.errors.insert(self.records.len(), file.error[..end].to_owned());
        }
        self.names.push_str(&file.name);
        self.records.push(Record {
            name_end: self.names.len() as u64,
            size: file.size,
            crc32: file.crc32,
            outcome: file.outcome,
            digest_mismatch: file.digest_mismatch,
        });
    }

    /// Number of files so far.
    pub fn count(&self) -> usize {
        self.records.len()
    }

    /// The page that starts at `offset`.
    pub fn page(&self, offset: u64) -> JobFilesPage {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.records.len());
        let end = start.saturating_add(PAGE).min(self.records.len());
        let files = (start..end).map(|i| self.file(i)).collect();
        JobFilesPage { files, next: (end < self.records.len()).then_some(end as u64) }
    }

    fn file(&self, index: usize) -> JobFile {
        let record = self.records[index];
        let start = index.checked_sub(1).map_or(0, |before| self.records[before].name_end);
        JobFile {
            name: self.names[start as usize..record.name_end as usize].to_owned(),
            size: record.size,
            crc32: record.crc32,
            outcome: record.outcome,
            digest_mismatch: record.digest_mismatch,
            error: self.errors.get(&index).cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(i: usize) -> JobFile {
        JobFile {
            name: format!("me-{i}-big-Data.db"),
            size: i as u64,
            crc32: i.is_multiple_of(2).then_some(7),
            outcome: if i == 3 { FileOutcome::Failed } else { FileOutcome::Uploaded },
            digest_mismatch: i == 4,
            error: if i == 3 { "é".repeat(2000) } else { String::new() },
        }
    }

    #[test]
    fn pages_return_what_was_put_in() {
        let mut log = FileLog::default();
        for i in 0..25_000 {
            log.push(&file(i));
        }
        let (mut offset, mut all) = (Some(0), Vec::new());
        while let Some(from) = offset {
            let page = log.page(from);
            assert!(page.files.len() <= PAGE);
            all.extend(page.files);
            offset = page.next;
        }
        assert_eq!(all.len(), 25_000);
        for (i, found) in all.iter().enumerate() {
            let mut expected = file(i);
            expected.error.truncate(MAX_ERROR);
            assert_eq!(*found, expected);
        }
        assert_eq!(log.page(99_999), JobFilesPage::default());
    }
}
