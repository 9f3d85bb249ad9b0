//! Exit codes (spec/sctool.md 1.3).

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, help, also `status` and `tasks` when single clusters failed.
    Success,
    /// 1: bad command line, failed request, error of the server, a followed run that is not DONE.
    Failure,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
