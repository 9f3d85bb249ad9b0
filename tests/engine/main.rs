//! The agent's transfer engine against the strict S3 server: what reaches the bucket, in how many requests, and what a
//! bad connection or a cut does to it.

mod quirks;
mod resume;
mod support;
mod trouble;
mod upload;
