//! Pure functions from wire types to the text that is printed (spec/sctool.md 4).

pub mod backup_files;
pub mod backup_list;
pub mod backup_progress;
pub mod backup_target;
pub mod clusters;
pub mod info;
pub mod schedule;
pub mod status;
pub mod table;
pub mod tasks;
pub mod text;
pub mod validate_progress;
pub mod version;
pub mod watch;

use chrono_tz::Tz;

/// What the place of printing looks like.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Zone of printed times.
    pub tz: Tz,
    /// Tables have UTF-8 borders.
    pub utf8: bool,
    /// Columns that a cause in a table must fit in; `None` for no truncation.
    pub width: Option<usize>,
}

#[cfg(test)]
impl View {
    /// UTC, UTF-8, no terminal.
    pub fn plain() -> Self {
        Self { tz: Tz::UTC, utf8: true, width: None }
    }
}
