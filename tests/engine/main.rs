//! The agent's transfer engine against the strict S3 server: what reaches the bucket, in how many requests, and what a
//! bad connection or a cut does to it.

mod ahead;
mod page_cache;
mod rate_limit;
mod resume;
mod single;
mod support;
mod together;
mod trouble;
mod upload;
