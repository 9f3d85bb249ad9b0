//! How an agent gets access to a bucket, as an operator sees it: `check-location` as a process of its own, in front of a
//! fake of what AWS offers (metadata of machine and container, STS, S3 behind a proxy).

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod aws;
mod check;
mod refusals;
mod sources;
