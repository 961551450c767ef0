//! Links: one relay for each pair of ends where one connects to the other, or none where containers can't reach this host.
//! The faults are told as a whole and kept here, so that a relay made later has those of its pair from the start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::{Done, Failure, Lab, Steps};
use crate::model::NodeName;
use crate::model::cluster::Observation;
use crate::model::links::{End, Harm, Links, Traffic};
use crate::model::msg::{Happened, Msg, OpId};
use crate::pg::conf::{self, PASSFILE, Upstream};
use crate::relay::{Dialled, Faults, Relay};
use crate::runtime::{Place, Runtime};

/// Counts are looked at this often, and told when they have changed.
const COUNT_EVERY: Duration = Duration::from_millis(500);

/// Who connects, and to whom.
pub(super) type Pair = (End, End);
/// The relays there are.
pub(super) type Relays = BTreeMap<Pair, Arc<Link>>;

/// A relay, and where to tell it its upstream's address.
#[derive(Debug)]
pub struct Link {
    relay: Relay,
    dial: watch::Sender<Option<Dialled>>,
}

impl Link {
    pub(super) fn start(listen: SocketAddr) -> Result<Self, Failure> {
        let (dial, told) = watch::channel(None);
        Ok(Self { relay: Relay::start(listen, told)?, dial })
    }

    pub(super) fn dial(&self, address: Dialled) {
        self.dial.send_if_modified(|told| told.replace(address.clone()) != Some(address));
    }

    /// The same where it has been told before: until then nobody is let through.
    fn dial_again(&self, address: Dialled) {
        if self.is_told() {
            self.dial(address);
        }
    }

    fn is_told(&self) -> bool {
        self.dial.borrow().is_some()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    /// Takes on the faults of its pair; whether they are others than before.
    pub(super) fn obey(&self, (from, to): &Pair, links: &Links) -> bool {
        let faults = Faults { up: links.lane(from, to), down: links.lane(to, from) };
        let differs = self.relay.faults() != faults;
        self.relay.set(faults);
        differs
    }
}

/// The faults in force, and the act that told them.
#[derive(Debug, Default)]
pub struct Told {
    act: Option<OpId>,
    links: Links,
}

impl<R: Runtime> Lab<R> {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The faults in force.
    pub(super) fn faults(&self) -> Links {
        self.told().links.clone()
    }
}

/// How `standby` reaches `upstream`, which may run already.
pub async fn link<R: Runtime>(lab: &Arc<Lab<R>>, standby: &NodeName, upstream: &NodeName) -> Result<Upstream, Failure> {
    let from = lay(lab, standby, upstream).await?;
    if direct(lab).is_none() && lab.runtime.peer_address(upstream).await.is_ok() {
        dial(lab, upstream).await?;
    }
    Ok(from)
}

/// How `standby` will reach `upstream`: through a relay that is made when it isn't there yet, or directly. A new relay lets
/// nobody through before [`dial`], and has the faults of its pair.
pub async fn lay<R: Runtime>(lab: &Arc<Lab<R>>, standby: &NodeName, upstream: &NodeName) -> Result<Upstream, Failure> {
    if direct(lab).is_none() {
        match lab.runtime.relay_host().await {
            Ok((listen, host)) => {
                let relay = relay(lab, &(standby.clone().into(), upstream.clone().into()), listen)?;
                return Ok(Upstream::with_slot(host, relay.relay.port(), standby));
            }
            Err(why) => go_direct(lab, why.to_string()),
        }
    }
    let (host, port) = lab.runtime.direct_address(upstream).await?;
    Ok(Upstream::with_slot(host, port, standby))
}

fn go_direct<R: Runtime>(lab: &Lab<R>, why: String) {
    *lab.direct.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
}

/// A standby runs and doesn't come to its relay, where everybody is let in: it can't reach this host. From now on links are
/// direct, its own first.
pub async fn straighten<R: Runtime>(lab: &Arc<Lab<R>>, standby: &NodeName, upstream: &NodeName) -> Result<(), Failure> {
    let relay = lab.relays().get(&(standby.clone().into(), upstream.clone().into())).cloned();
    let Some(relay) = relay.filter(|relay| relay.relay.reading().opened == 0) else { return Ok(()) };
    let host = lab.runtime.relay_host().await.map_or_else(|why| why.to_string(), |(_, host)| host);
    go_direct(
        lab,
        format!(
            "no connection of {standby} reaches this host at {host} port {}; a firewall that drops them is the usual \
             reason: allow TCP from the lab's network to this host{}, then `reset`",
            relay.relay.port(),
            lab.runtime.allow().map_or(String::new(), |command| format!(" ({command})")),
        ),
    );
    let from = lay(lab, standby, upstream).await?;
    let passfile = lab.runtime.path(standby, &Place::Private(PASSFILE.to_owned()));
    let conninfo = conf::primary_conninfo(standby, &from, &passfile);
    lab.control(standby)?.alter_system("primary_conninfo", Some(&conninfo)).await?;
    drop_link(lab, standby, upstream);
    Ok(())
}

/// How often a standby has come to its relay, where nothing is wrong with their link and a firewall might be.
pub(super) fn arrivals<R: Runtime>(lab: &Lab<R>, standby: &NodeName, upstream: &NodeName) -> Option<u64> {
    lab.runtime.allow()?;
    let pair = (End::from(standby.clone()), End::from(upstream.clone()));
    let faults = lab.faults();
    let harmed = faults.lane(&pair.0, &pair.1).harms().chain(faults.lane(&pair.1, &pair.0).harms()).next();
    let relay = lab.relays().get(&pair).cloned().filter(|_| harmed.is_none())?;
    Some(relay.relay.reading().opened)
}

/// What keeps a standby from its relay, when it has come no more often than then.
pub(super) fn kept_away<R: Runtime>(
    lab: &Lab<R>,
    standby: &NodeName,
    upstream: &NodeName,
    then: Option<u64>,
) -> Option<String> {
    let came = arrivals(lab, standby, upstream)? > then?;
    let command = lab.runtime.allow()?;
    (!came).then(|| {
        format!(
            "no connection of {standby} has reached this host, though nothing is wrong with its link to {upstream}: a firewall \
             that drops them is the usual reason ({command})"
        )
    })
}

/// The relay of a pair; a new one is at fault from its first moment, if its pair is.
fn relay<R: Runtime>(lab: &Lab<R>, pair: &Pair, listen: SocketAddr) -> Result<Arc<Link>, Failure> {
    let (told, mut relays) = (lab.told(), lab.relays());
    if let Some(there) = relays.get(pair) {
        return Ok(Arc::clone(there));
    }
    let made = Arc::new(Link::start(listen)?);
    made.obey(pair, &told.links);
    relays.insert(pair.clone(), Arc::clone(&made));
    Ok(made)
}

/// Why links are direct, if they are.
pub fn direct<R: Runtime>(lab: &Lab<R>) -> Option<String> {
    lab.direct.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A node was started: the relays towards it dial where it is now.
pub async fn dial<R: Runtime>(lab: &Lab<R>, upstream: &NodeName) -> Result<(), Failure> {
    if !lab.relays().keys().any(|(_, to)| to.node() == Some(upstream)) {
        return Ok(());
    }
    let _in_turn = lab.dialling.lock().await;
    let address = lab.runtime.peer_address(upstream).await?;
    towards(lab, upstream, |relay| relay.dial(address.clone()));
    Ok(())
}

/// A node has ended or was started, by whomever: relays that have dialled it dial where it is now. One that is down is dialled by nobody,
/// because an engine gives its address to the next container that starts.
pub async fn dial_again<R: Runtime>(lab: &Lab<R>, upstream: &NodeName) {
    // Bring-up is in a hurry, and an engine's answer takes its time.
    if !lab.relays().iter().any(|((_, to), relay)| to.node() == Some(upstream) && relay.is_told()) {
        return;
    }
    let _in_turn = lab.dialling.lock().await;
    let there = match lab.runtime.peer_address(upstream).await {
        Ok(address) => address,
        // Nothing is known of it: the engine is away, and where its nodes go on, so do the links.
        Err(_) if lab.runtime.is_up(upstream).await.is_err() => return,
        Err(_) => Dialled::Nowhere,
    };
    towards(lab, upstream, |relay| relay.dial_again(there.clone()));
}

fn towards<R: Runtime>(lab: &Lab<R>, upstream: &NodeName, act: impl Fn(&Link)) {
    for ((_, to), relay) in lab.relays().iter() {
        if to.node() == Some(upstream) {
            act(relay);
        }
    }
}

/// These faults and no others are in force from now on; what a later act told already stays.
pub async fn set<R: Runtime>(lab: &Arc<Lab<R>>, act: OpId, links: &Links, steps: &mut Steps) -> Done {
    {
        let mut told = lab.told();
        if told.act.is_some_and(|last| last > act) {
            return Ok(Happened::Plain);
        }
        *told = Told { act: Some(act), links: links.clone() };
        for (pair, relay) in lab.relays().iter() {
            if relay.obey(pair, links) {
                steps.note(format!("relay {} to {}: {}", pair.0, pair.1, in_words(pair, links)));
            }
        }
    }
    lab.reroute_clients(steps).await?;
    Ok(Happened::Plain)
}

/// What a relay does now, direction by direction.
pub(super) fn in_words((from, to): &Pair, links: &Links) -> String {
    let one = |a: &End, b: &End| {
        let harms: Vec<String> = links.lane(a, b).harms().map(Harm::word).collect();
        (!harms.is_empty()).then(|| format!("{a} to {b} {}", harms.join(", ")))
    };
    let both: Vec<String> = [one(from, to), one(to, from)].into_iter().flatten().collect();
    if both.is_empty() { "carries everything".to_owned() } else { both.join("; ") }
}

/// Tells how much passes the relays, until the lab ends.
pub fn count<R: Runtime>(lab: &Arc<Lab<R>>) {
    let lab = Arc::clone(lab);
    tokio::spawn(async move {
        let mut clock = interval(COUNT_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Vec::new();
        loop {
            tokio::select! {
                () = lab.end.cancelled() => return,
                _ = clock.tick() => {}
            }
            let now: Vec<Traffic> = lab.relays().iter().map(|(pair, link)| traffic(pair, link)).collect();
            if now != last {
                last.clone_from(&now);
                lab.tell(Msg::Observed(Observation::Traffic(now))).await;
            }
        }
    });
}

fn traffic((from, to): &Pair, link: &Link) -> Traffic {
    let reading = link.relay.reading();
    Traffic {
        from: from.clone(),
        to: to.clone(),
        up: reading.up,
        down: reading.down,
        round_trips: reading.round_trips,
        open: reading.open,
    }
}

/// The lab begins anew: nothing is wrong with any link.
pub async fn clear<R: Runtime>(lab: &Lab<R>) {
    lab.told().links = Links::default();
    *lab.direct.lock().unwrap_or_else(PoisonError::into_inner) = None;
    lab.relays().clear();
    lab.forget_way().await;
}

/// Takes away the relays of a node that is gone.
pub fn forget<R: Runtime>(lab: &Lab<R>, node: &NodeName) {
    lab.told().links.forget(node);
    lab.relays().retain(|(from, to), _| from.node() != Some(node) && to.node() != Some(node));
}

/// Takes away one link.
pub fn drop_link<R: Runtime>(lab: &Lab<R>, standby: &NodeName, upstream: &NodeName) {
    lab.relays().remove(&(End::from(standby.clone()), End::from(upstream.clone())));
}
