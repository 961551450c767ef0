//! Ports of 127.0.0.1 for nodes. One that is down keeps its port though nobody listens there, so no other lab of this program
//! may take it. Knows no nodes.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Result, RuntimeError};

const TRIES: usize = 500;
/// Where Linux begins to give ports to outgoing connections unless told otherwise (ip(7), ip_local_port_range).
const OUTGOING: u16 = 32_768;

/// Of all labs.
static CLAIMED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

fn claimed() -> MutexGuard<'static, BTreeSet<u16>> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those of one lab; given back when dropped.
#[derive(Debug, Default)]
pub struct Ports(BTreeSet<u16>);

impl Ports {
    /// Claims a free one. Another program may still take it before it is used.
    pub fn claim(&mut self) -> Result<u16> {
        self.claim_of(below_outgoing())
    }

    fn claim_of(&mut self, ports: Range<u16>) -> Result<u16> {
        let mut claimed = claimed();
        let free = |port: &u16| !claimed.contains(port) && is_free(*port);
        let found = std::iter::repeat_with(|| fastrand::u16(ports.clone())).take(TRIES).find(free);
        let port = found.ok_or_else(|| RuntimeError {
            what: "find a free port".to_owned(),
            why: format!("{TRIES} ports of 127.0.0.1 from {} to {} are all taken", ports.start, ports.end - 1),
            hint: None,
        })?;
        claimed.insert(port);
        self.0.insert(port);
        Ok(port)
    }

    /// Takes one back that was given back.
    pub fn keep(&mut self, port: u16) {
        claimed().insert(port);
        self.0.insert(port);
    }

    /// Nobody has it any more.
    pub fn give_back(&mut self, port: u16) {
        if self.0.remove(&port) {
            claimed().remove(&port);
        }
    }

    /// Gives all back.
    pub fn clear(&mut self) {
        let mut claimed = claimed();
        for port in std::mem::take(&mut self.0) {
            claimed.remove(&port);
        }
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether nobody listens there now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Below the range that outgoing connections are given, so that nobody takes one by chance.
fn below_outgoing() -> Range<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let begin = range.split_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(OUTGOING);
    if begin > 16_000 { 15_000..begin } else { 15_000..65_535 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two labs share five ports, one of which is somebody else's; what a lab gives back, or takes along, is free again.
    #[test]
    fn no_lab_takes_anothers_port() {
        // Below those that other tests' labs take.
        let five = 14_990..14_995;
        let squatter = TcpListener::bind((Ipv4Addr::LOCALHOST, 14_992)).expect("free");
        let (mut one, mut other) = (Ports::default(), Ports::default());
        let claim = |lab: &mut Ports| lab.claim_of(five.clone()).map_err(|e| e.why);
        let first = claim(&mut one).unwrap();
        let mut all: BTreeSet<u16> =
            (0..3).map(|n| claim(if n < 2 { &mut other } else { &mut one }).unwrap()).collect();
        all.insert(first);
        assert_eq!(all, [14_990, 14_991, 14_993, 14_994].into());
        assert_eq!(claim(&mut other), Err("500 ports of 127.0.0.1 from 14990 to 14994 are all taken".to_owned()));
        other.give_back(first);
        assert!(claim(&mut other).is_err(), "it wasn't its own");
        one.give_back(first);
        assert_eq!(claim(&mut other), Ok(first));
        drop(one);
        assert!(claim(&mut other).is_ok());
        drop(squatter);
    }
}
