//! Calls as callers see them: requests into the router, over local stores in a temporary directory.

mod bed;
mod check;
mod files;
mod jobs;
mod list;
mod object_store;
mod protocol;
