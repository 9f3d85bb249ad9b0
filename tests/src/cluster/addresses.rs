//! Address ranges for clusters that run side by side on one machine.

use std::net::{Ipv4Addr, TcpListener};

use super::SimError;

/// Port that marks a range as taken; nobody ever connects to it.
const CLAIM_PORT: u16 = 47_011;
/// Offset of the first node in its range.
const FIRST_NODE: u8 = 11;

/// A range 127.x.y.0/24 held by this process until dropped.
pub(super) struct Range {
    network: [u8; 3],
    _claim: TcpListener,
}

impl Range {
    /// Takes the first free range. Ranges with x = 0 are left to people who choose addresses themselves.
    pub fn claim() -> Result<Self, SimError> {
        for x in 1..=255_u8 {
            for y in 0..=255_u8 {
                let address = Ipv4Addr::new(127, x, y, 1);
                if let Ok(claim) = TcpListener::bind((address, CLAIM_PORT)) {
                    return Ok(Self { network: [127, x, y], _claim: claim });
                }
            }
        }
        Err(SimError::NoAddresses)
    }

    /// Address of the first node.
    pub fn first(&self) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, FIRST_NODE)
    }
}
