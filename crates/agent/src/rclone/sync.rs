//! `sync/*` and `operations/verify`: work on many files, as a rule in the background
//! (spec agent.md 2.6.12, 2.6.13, 4a).

use std::collections::HashSet;
use std::sync::Arc;

use super::core::parse_rate;
use super::{CallError, Params, Rclone, Work, empty, work};
use crate::size_suffix::RatePair;
use crate::storage::ObjectPath;
use crate::transfer::{CopyPaths, DirTransfer};

/// Settings of the process that a job changes before it starts; absent ones stay as they are.
struct Settings {
    transfers: Option<i64>,
    rate: Option<RatePair>,
}

impl Settings {
    fn read(params: &Params) -> Result<Self, CallError> {
        let rate = params.text("bandwidth_rate")?;
        let rate = (!rate.is_empty()).then(|| parse_rate(rate)).transpose()?;
        // The clients leave zero values out, so a zero that does come means the same.
        let transfers = params.integer("transfers")?.filter(|n| *n != 0);
        Ok(Self { transfers, rate })
    }

    /// Comes last: a call that is refused changes nothing.
    fn apply(&self, rclone: &Rclone) -> Result<u32, CallError> {
        if let Some(transfers) = self.transfers {
            rclone.engine.transfers().set(transfers)?;
        }
        if let Some(rate) = self.rate {
            rclone.engine.limits().set(rate);
        }
        Ok(rclone.engine.transfers().get())
    }
}

impl Rclone {
    pub(super) fn transfer_dir(
        self: &Arc<Self>,
        params: &Params,
        remove_source: bool,
    ) -> Result<Work, CallError> {
        let (from, to) = self.remotes.pair(params)?;
        from.check_local()?;
        let suffix = suffix(params)?;
        let overwrite = relative_paths(params, "overwrite")?.into_iter().collect::<HashSet<_>>();
        let transfers = Some(Settings::read(params)?.apply(self)?);
        let this = self.clone();
        Ok(work(move |context| async move {
            let (from, to) = (from.place, to.place);
            let dir = DirTransfer { from, to, suffix, overwrite, remove_source, transfers };
            this.engine.transfer_dir(&context, dir).await?;
            Ok(empty())
        }))
    }

    pub(super) fn copy_paths(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let (from, to) = self.remotes.pair(params)?;
        to.check_local()?;
        let paths = relative_paths(params, "paths")?;
        let transfers = Some(Settings::read(params)?.apply(self)?);
        let this = self.clone();
        Ok(work(move |context| async move {
            let copy = CopyPaths { from: from.place, to: to.place, paths, transfers };
            this.engine.copy_paths(&context, copy).await?;
            Ok(empty())
        }))
    }

    pub(super) fn verify(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let dir = self.remotes.remote(params)?;
        let paths = relative_paths(params, "paths")?;
        let this = self.clone();
        Ok(work(move |context| async move {
            this.engine.verify(&context, &dir.place, &paths).await?;
            Ok(empty())
        }))
    }
}

/// The suffix names a version of a file in the same directory, so it cannot hold a slash.
fn suffix(params: &Params) -> Result<Option<String>, CallError> {
    let suffix = params.text("suffix")?;
    if suffix.contains(['/', '\0']) {
        return Err(CallError::BadRequest(format!("suffix {suffix:?} must not contain a slash")));
    }
    Ok((!suffix.is_empty()).then(|| suffix.to_owned()))
}

/// Names of files below a directory, without `.` and `..`.
fn relative_paths(params: &Params, key: &'static str) -> Result<Vec<String>, CallError> {
    let paths: Vec<String> = params.structure(key)?;
    let clean = |path: &String| match ObjectPath::parse(path)? {
        path if path.is_root() => Err(CallError::BadRequest(format!("{key}: an empty name is no file"))),
        path => Ok(path.as_str().to_owned()),
    };
    paths.iter().map(clean).collect()
}
