//! Moves bytes between stores under one byte budget and one rate limit.

pub mod rate_limit;
mod setting;

pub use setting::{InvalidTransfers, Transfers};
