//! The way from the clients to the servers: direct, or through a relay for as long as something is wrong with the clients'
//! link to that node. Knows the writers' orders and nothing of what they write.
//!
//! The clients change over before the fault is in force and after it is healed, with no write under way where that is
//! possible: the outcome of a write must come from the fault, not from the lab's rerouting.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::links::{Link, Pair, in_words};
use super::{Failure, Lab, Steps, links};
use crate::model::NodeName;
use crate::model::links::{End, Links};
use crate::model::msg::WriterPlan;
use crate::runtime::Runtime;
use crate::workload;

/// Writes under way are waited for no longer than this before the clients change over; a commit that waits for a standby
/// doesn't return for that.
const SETTLE: Duration = Duration::from_millis(500);
/// The log-ins are waited for no longer than this: a server that is down or frozen takes none.
const LOG_IN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The writers' orders, and where they go now.
#[derive(Debug, Default)]
pub struct Way {
    plan: WriterPlan,
    at: Option<(NodeName, SocketAddr)>,
}

fn pair(node: &NodeName) -> Pair {
    (End::Client, End::Node(node.clone()))
}

impl<R: Runtime> Lab<R> {
    /// Gives the writers their orders, with the target's address of the moment.
    pub async fn order(&self, plan: &WriterPlan) {
        let mut way = self.way.lock().await;
        way.plan.clone_from(plan);
        way.at = match &plan.target {
            Some(node) => self.client_address(node).await.ok().map(|address| (node.clone(), address)),
            None => None,
        };
        self.send_orders(&way, plan.paused);
    }

    /// Where clients reach a node: through the relay while their link to it is at fault.
    pub async fn client_address(&self, node: &NodeName) -> Result<SocketAddr, Failure> {
        let relay = self.relays().get(&pair(node)).map(|link| link.address());
        match relay {
            Some(address) => Ok(address),
            None => Ok(self.runtime.control_address(node).await?),
        }
    }

    pub(super) async fn forget_way(&self) {
        *self.way.lock().await = Way::default();
    }

    fn send_orders(&self, way: &Way, paused: bool) {
        let plan = WriterPlan { paused, ..way.plan.clone() };
        if let Some((writers, _)) = &*self.writers() {
            writers.set(workload::plan(&plan, way.at.as_ref().map(|(_, address)| *address)));
        }
    }

    /// The faults are others now: makes the relays that clients need and takes away those that they don't.
    pub(super) async fn reroute_clients(&self, steps: &mut Steps) -> Result<(), Failure> {
        let mut way = self.way.lock().await;
        let nodes: Vec<NodeName> = self.nodes().keys().cloned().collect();
        for node in nodes {
            let pair = pair(&node);
            let there = self.relays().get(&pair).cloned();
            match (there, self.faults().touches(&pair.0, &pair.1)) {
                (None, true) => self.relay_clients(&mut way, &node, &pair, steps).await?,
                (Some(_), false) => {
                    if way.at.as_ref().is_some_and(|(at, _)| *at == node) {
                        let address = self.runtime.control_address(&node).await?;
                        self.change_over(&mut way, &node, address).await;
                        steps.note(format!("the clients connect to {node} directly again"));
                    }
                    self.relays().remove(&pair);
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn relay_clients(
        &self,
        way: &mut Way,
        node: &NodeName,
        pair: &Pair,
        steps: &mut Steps,
    ) -> Result<(), Failure> {
        let link = Arc::new(Link::start((Ipv4Addr::LOCALHOST, 0).into())?);
        // One that is down is dialled when it starts.
        if let Ok(address) = self.runtime.peer_address(node).await {
            link.dial(address);
        }
        if way.at.as_ref().is_some_and(|(at, _)| at == node) {
            self.change_over(way, node, link.address()).await;
            steps.note(format!("the clients connect to {node} through a relay"));
        }
        let links: Links = self.faults();
        link.obey(pair, &links);
        self.relays().insert(pair.clone(), link);
        // It may have been started or have ended meanwhile.
        if links::dial(self, node).await.is_err() {
            links::dial_again(self, node).await;
        }
        steps.note(format!("relay client to {node}: {}", in_words(pair, &links)));
        Ok(())
    }

    /// Takes the clients to another address of the node that they write to.
    async fn change_over(&self, way: &mut Way, node: &NodeName, address: SocketAddr) {
        self.send_orders(way, true);
        let old = way.at.as_ref().map(|(_, at)| *at);
        self.until(SETTLE, old, |_, in_flight| in_flight == 0).await;
        way.at = Some((node.clone(), address));
        self.send_orders(way, true);
        let clients = way.plan.clients as usize;
        self.until(LOG_IN, Some(address), |connected, _| connected >= clients).await;
        self.send_orders(way, way.plan.paused);
    }

    /// Waits until so many clients are connected there and so many writes are under way, but not for ever.
    async fn until(&self, limit: Duration, at: Option<SocketAddr>, good: impl Fn(usize, usize) -> bool) {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            let counts = self.writers().as_ref().map(|(w, _)| w.counts(at));
            if counts.is_none_or(|(connected, in_flight)| good(connected, in_flight)) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
