//! What every container of replab may do and take, whatever it is for: nothing beyond what a server needs.

use std::collections::HashMap;

use bollard::models::{HostConfig, HostConfigLogConfig, RestartPolicy, RestartPolicyNameEnum};

use super::failure::plain;
use super::labels::{self, Labels};
use crate::runtime::{Owner, Result};

/// The account in the image that everything runs as.
pub(super) const USER: &str = "postgres";
const MEGABYTE: i64 = 1024 * 1024;

/// How much a container may take of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory in megabytes, with the page cache of its files.
    pub memory_mb: u32,
    /// Processes.
    pub processes: u32,
    /// Shared memory in megabytes.
    pub shared_mb: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mb: 512, processes: 512, shared_mb: 128 }
    }
}

/// No capabilities, no new privileges, and these limits. Network and mounts are still to be said.
pub(super) fn host_config(limits: Limits) -> HostConfig {
    let log = [("max-size", "5m"), ("max-file", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    HostConfig {
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        memory: Some(i64::from(limits.memory_mb) * MEGABYTE),
        pids_limit: Some(i64::from(limits.processes)),
        shm_size: Some(i64::from(limits.shared_mb) * MEGABYTE),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log.into()) }),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        auto_remove: Some(false),
        ..HostConfig::default()
    }
}

/// The same for a container that no other may reach.
pub(super) fn alone() -> HostConfig {
    HostConfig { network_mode: Some("none".to_owned()), ..host_config(Limits::default()) }
}

/// The label of a container that is no node: `clean` finds it when its maker is gone.
pub(super) fn maker(owner: &Owner, what: &str) -> Result<Labels> {
    let owner = serde_json::to_string(owner).map_err(|err| plain(what, err.to_string()))?;
    Ok(HashMap::from([(labels::MAKER.to_owned(), owner)]))
}
