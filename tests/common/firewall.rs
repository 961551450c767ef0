//! A firewall between one lab's containers and this host: new connections from its network are dropped. Needs root and
//! iptables; without them a test says that it is skipped, and fails where `CI` is true.

#![allow(dead_code, reason = "one test program uses it")]

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bollard::query_parameters::ListNetworksOptionsBuilder;

use super::house::bare;

/// The rule in force; gone when dropped.
pub struct Firewall {
    bridge: String,
}

fn iptables(what: &str, bridge: &str) -> bool {
    let words = ["INPUT", "-i", bridge, "-p", "tcp", "--syn", "-j", "DROP"];
    let mut command = Command::new("iptables");
    command.arg(what).args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Firewall {
    /// Whether there can be one.
    pub fn can_be() -> bool {
        let there = rustix::process::geteuid().is_root() && iptables("-I", "none-such") && iptables("-D", "none-such");
        if !there {
            let needed = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!needed, "can't be tested: no root, or no iptables");
            println!("skipped: no root, or no iptables");
        }
        there
    }

    /// Waits for the network of a lab that is on its way up, and closes it at once.
    pub async fn around(lab: &str) -> Self {
        Self::around_labelled(&format!("replab.lab={lab}")).await
    }

    /// The same for the lab of this process.
    pub async fn around_lab_of(pid: u32) -> Self {
        Self::around_labelled(&format!("replab.owner={pid}")).await
    }

    async fn around_labelled(label: &str) -> Self {
        let engine = bare().await.expect("an engine");
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let networks = ListNetworksOptionsBuilder::new().filters(&filters).build();
            let found = engine.list_networks(Some(networks)).await.unwrap();
            if let Some(id) = found.into_iter().find_map(|network| network.id) {
                let bridge = format!("br-{}", &id[..12]);
                assert!(iptables("-I", &bridge), "no rule for {bridge}");
                return Self { bridge };
            }
            assert!(Instant::now() < end, "no network with {label}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        assert!(iptables("-D", &self.bridge) || std::thread::panicking(), "the rule for {} stays", self.bridge);
    }
}
