//! A strict S3 server for tests, the demo and benchmarks.
//!
//! The crate `s3s` speaks the protocol (signatures, XML, chunked uploads); everything behind it is ours and refuses what
//! AWS refuses, because a server that forgives hides the bugs a real bucket would show. In front of it every request is
//! counted and can be made to fail ([`Faults`]). Objects live as long as the server: nothing here is durable.

mod backend;
mod blob;
mod checksum;
mod counters;
mod faults;
mod listing;
mod metered;
mod relay;
mod request;
mod server;
mod store;
mod uploads;

#[cfg(test)]
mod tests;

pub use blob::{Blob, Storage};
pub use counters::{Counters, KindCount, RequestRecord, WINDOW};
pub use faults::{Calls, Fault, FaultId, Faults, Gate, Rule};
pub use relay::S3Relay;
pub use request::RequestKind;
pub use server::{Credentials, S3Config, S3Server};
pub use store::{Quirks, Store, StoredObject};
