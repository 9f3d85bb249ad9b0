//! A whole installation for one scenario: simulated cluster and S3 in this process, agents, manager and `sctool` as
//! processes of their own.
//!
//! The programs are this package's `testbed exec ...`, so that a test can kill one at any instruction and nothing has
//! to be built beforehand; another program can take the place of each. Nothing here sleeps to wait: see [`wait_for`].

mod agent_api;
mod bed;
mod config;
mod manager_api;
mod process;
mod target;
mod wait;

pub use agent_api::AgentApi;
pub use bed::{Bed, BedConfig, RunningSctool, SctoolRun};
pub use config::{AUTH_TOKEN, AgentOptions, S3Access, agent_yaml, manager_yaml};
pub use manager_api::{ManagerApi, RunState};
pub use process::{Child, Program, Programs, free_port};
pub use target::{DEFAULT_PROVIDER, ExternalS3, S3Target};
pub use wait::{Deadline, wait_for};
