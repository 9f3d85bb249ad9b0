//! `core/*`: settings of the process and statistics (spec agent.md 2.6.1 to 2.6.3).

use std::sync::Arc;

use common::api::agent::{Bandwidth, Transfers};

use super::{CallError, Params, Rclone, Work, empty, to_json, work};
use crate::size_suffix::{RatePair, SizeSuffix};

impl Rclone {
    pub(super) fn bandwidth_limit(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let rate = params.text("rate")?;
        let rate = (!rate.is_empty()).then(|| parse_rate(rate)).transpose()?;
        let this = self.clone();
        Ok(work(move |_| async move {
            if let Some(rate) = rate {
                this.engine.limits().set(rate);
                tracing::info!(%rate, "Bandwidth limit set");
            }
            to_json(&bandwidth(this.engine.limits().get()))
        }))
    }

    pub(super) fn transfers(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let wanted = params.integer("transfers")?;
        let this = self.clone();
        Ok(work(move |_| async move {
            if let Some(wanted) = wanted {
                this.engine.transfers().set(wanted)?;
                tracing::info!(transfers = this.engine.transfers().get(), "Number of transfers set");
            }
            to_json(&Transfers { transfers: Some(this.engine.transfers().get().into()) })
        }))
    }

    /// Without a group nothing happens.
    pub(super) fn stats_delete(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let (this, group) = (self.clone(), params.text("group")?.to_owned());
        Ok(work(move |_| async move {
            if !group.is_empty() {
                this.jobs.delete_stats(&group);
            }
            Ok(empty())
        }))
    }

    /// Without a group all are reset.
    pub(super) fn stats_reset(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let (this, group) = (self.clone(), params.text("group")?.to_owned());
        Ok(work(move |_| async move {
            this.jobs.reset_stats(Some(group.as_str()).filter(|g| !g.is_empty()));
            Ok(empty())
        }))
    }
}

/// A rate of a request.
pub(super) fn parse_rate(text: &str) -> Result<RatePair, CallError> {
    text.parse().map_err(|e| CallError::BadRequest(format!("bad bandwidth limit: {e}")))
}

fn bandwidth(rate: RatePair) -> Bandwidth {
    let bytes = |rate: SizeSuffix| rate.limit().map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX));
    Bandwidth {
        rate: rate.to_string(),
        bytes_per_second: bytes(rate.up),
        bytes_per_second_tx: bytes(rate.up),
        bytes_per_second_rx: bytes(rate.down),
    }
}
