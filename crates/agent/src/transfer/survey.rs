//! What is known and prepared before the first file of a job is sent.

use std::collections::{BTreeSet, HashSet};

use tokio_util::sync::CancellationToken;

use super::TransferError;
use super::ahead::Ahead;
use super::destination::Destination;
use super::directory::stoppable;
use super::order::Unit;
use crate::storage::Place;

pub(super) struct Survey {
    pub destination: Destination,
    /// Files of which an earlier job left parts behind.
    pub unfinished: BTreeSet<String>,
    pub ahead: Ahead,
}

impl Survey {
    /// Looks at `to` on behalf of the files in `names`. Meanwhile it begins the uploads of `large`: the large ones whose
    /// turn is first, none if there are none.
    pub(super) async fn take(
        stop: &CancellationToken,
        to: &Place,
        names: &HashSet<String>,
        suffix: &str,
        large: &[Unit],
        budget: u64,
    ) -> Result<Self, TransferError> {
        let ahead = Ahead::default();
        let survey = async {
            // Only large files leave parts behind.
            let leftovers =
                async { if large.is_empty() { Ok(Vec::new()) } else { to.store.unfinished(&to.path).await } };
            futures::try_join!(Destination::survey(to, names, suffix), leftovers)
        };
        // Whatever becomes of the survey, an upload that is being begun must be known, or nobody could abort it.
        let (surveyed, ()) = futures::join!(stoppable(stop, survey), ahead.begin(stop, to, large, budget));
        match surveyed {
            Ok((destination, leftovers)) => {
                let foreign = leftovers.into_iter().filter(|leftover| !ahead.has(leftover));
                let unfinished = foreign.map(|leftover| leftover.name).collect();
                Ok(Self { destination, unfinished, ahead })
            }
            Err(error) => {
                ahead.abort_rest().await;
                Err(error)
            }
        }
    }
}
