//! How many files a job moves at once, for the whole process (spec agent.md 2.6.2).

use std::sync::atomic::{AtomicU32, Ordering};

/// The setting of `core/transfers`, `sync/movedir`, `copydir` and `copypaths`.
#[derive(Debug)]
pub struct Transfers {
    configured: u32,
    current: AtomicU32,
}

/// A number of transfers that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("transfers count must be greater than 0, got {0}")]
pub struct InvalidTransfers(pub i64);

impl Transfers {
    /// The configured number.
    pub fn new(configured: u32) -> Self {
        let configured = configured.max(1);
        Self { configured, current: AtomicU32::new(configured) }
    }

    /// Files at once of a job that starts now.
    pub fn get(&self) -> u32 {
        self.current.load(Ordering::Relaxed)
    }

    /// Changes the number; -1 for the configured one.
    ///
    /// # Errors
    /// Zero or another negative number.
    pub fn set(&self, transfers: i64) -> Result<(), InvalidTransfers> {
        let value = match transfers {
            -1 => self.configured,
            n if n > 0 => u32::try_from(n).unwrap_or(u32::MAX),
            n => return Err(InvalidTransfers(n)),
        };
        self.current.store(value, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_is_the_configured_number() {
        let transfers = Transfers::new(2);
        transfers.set(7).unwrap();
        assert_eq!(transfers.get(), 7);
        transfers.set(-1).unwrap();
        assert_eq!(transfers.get(), 2);
        for bad in [0, -2] {
            let error = transfers.set(bad).unwrap_err().to_string();
            assert_eq!(error, format!("transfers count must be greater than 0, got {bad}"));
        }
    }
}
