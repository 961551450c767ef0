//! The lab's own network: making it, and how this host and its containers reach each other. Knows no nodes.

use std::collections::HashMap;
use std::net::{IpAddr, TcpListener};
use std::pin::pin;

use bollard::Docker;
use bollard::models::{EventMessage, Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::{EventsOptionsBuilder, InspectNetworkOptions, ListNetworksOptionsBuilder};
use futures_util::future::{BoxFuture, Shared, ready};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio_util::task::TaskTracker;

use super::failure::{self, hinted, plain};
use super::labels;
use crate::runtime::{Owner, Result};

/// How many subnets are tried when the engine's own pools are used up.
const SUBNET_TRIES: usize = 16;

/// The lab's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabNetwork {
    /// Its exact id.
    pub(super) id: String,
    /// The host's address in it.
    pub(super) gateway: Option<IpAddr>,
    /// Whether its bridge is on this host, so that both sides can dial each other where no firewall is between them.
    pub(super) shared: bool,
}

/// The network on its way. It takes an engine an eighth of a second, and containers can be made meanwhile: only their start
/// needs it.
pub(super) type Coming = Shared<BoxFuture<'static, Result<LabNetwork>>>;

/// What the lab's network is called.
pub(super) fn name(owner: &Owner) -> String {
    format!("replab-{}", owner.lab)
}

/// Begins to find the lab's network, or to make it, as one of `flights`.
pub(super) fn begin(docker: &Docker, owner: &Owner, flights: &TaskTracker) -> Coming {
    let (docker, owner) = (docker.clone(), owner.clone());
    let flight = flights.spawn(async move { ensure(&docker, &owner).await });
    let landed = async { flight.await.map_err(|err| plain("make the lab's network", err.to_string()))? };
    landed.boxed().shared()
}

async fn ensure(docker: &Docker, owner: &Owner) -> Result<LabNetwork> {
    let name = name(owner);
    let what = format!("make network {name}");
    let id = match of_lab(docker, &owner.lab).await?.into_iter().next() {
        Some(id) => id,
        None => make(docker, owner, &name, &what).await?,
    };
    let found = docker.inspect_network(&id, None::<InspectNetworkOptions>).await;
    let found = found.map_err(|err| failure::engine(&what, &err))?;
    Ok(LabNetwork { id, gateway: gateway(&found), shared: is_here(&found) })
}

/// Whether the engine's own first network is on this host, and so will be every other one of it.
pub(super) async fn is_near(docker: &Docker) -> bool {
    let found = docker.inspect_network("bridge", None::<InspectNetworkOptions>).await;
    found.is_ok_and(|found| is_here(&found))
}

/// Whether a network's bridge is an interface of this host, and its gateway an address of it. The address alone proves nothing: two
/// engines may have the same.
fn is_here(found: &NetworkInspect) -> bool {
    let named = found.options.as_ref().and_then(|options| options.get("com.docker.network.bridge.name")).cloned();
    let made = || found.id.as_ref().and_then(|id| id.get(..12)).map(|id| format!("br-{id}"));
    let interfaces = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    named.or_else(made).is_some_and(|bridge| has_interface(&interfaces, &bridge))
        && gateway(found).is_some_and(is_own_address)
}

/// Each line of /proc/net/dev begins with a name and a colon, after two lines of heads.
fn has_interface(interfaces: &str, name: &str) -> bool {
    interfaces.lines().filter_map(|line| line.split(':').next()).any(|one| one.trim() == name)
}

/// An address that can be listened on is this host's.
fn is_own_address(address: IpAddr) -> bool {
    TcpListener::bind((address, 0)).is_ok()
}

fn gateway(found: &NetworkInspect) -> Option<IpAddr> {
    let configs = found.ipam.as_ref()?.config.as_ref()?;
    configs.iter().find_map(|config| config.gateway.as_ref()?.split('/').next()?.parse::<IpAddr>().ok())
}

async fn make(docker: &Docker, owner: &Owner, name: &str, what: &str) -> Result<String> {
    let refused = match docker.create_network(request(owner, name, None)).await {
        Ok(made) => return Ok(made.id),
        Err(err) if failure::status(&err).is_none() => return Err(failure::engine(what, &err)),
        Err(err) => failure::engine(what, &err),
    };
    // Most likely its own subnets are used up, or overlap with something. How it says so differs from engine to engine: whether it is so
    // shows when it is given others.
    for _ in 0..SUBNET_TRIES {
        match docker.create_network(request(owner, name, Some(random_subnet()))).await {
            Ok(made) => return Ok(made.id),
            Err(err) if failure::status(&err).is_none() => return Err(failure::engine(what, &err)),
            Err(_) => {}
        }
    }
    let why = format!("{}; nor does it take any of {SUBNET_TRIES} other subnets", refused.why);
    Err(hinted(what, why, refused.hint.as_deref().unwrap_or("remove networks that nothing uses: docker network prune")))
}

fn request(owner: &Owner, name: &str, subnet: Option<String>) -> NetworkCreateRequest {
    let config = |subnet| IpamConfig { subnet: Some(subnet), ..IpamConfig::default() };
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        internal: Some(false),
        attachable: Some(false),
        labels: Some(labels::of_lab(owner)),
        ipam: subnet.map(|subnet| Ipam { config: Some(vec![config(subnet)]), ..Ipam::default() }),
        ..NetworkCreateRequest::default()
    }
}

fn random_subnet() -> String {
    format!("10.{}.{}.0/24", fastrand::u8(100..=250), fastrand::u8(..))
}

/// The ids of a lab's networks.
pub(super) async fn of_lab(docker: &Docker, lab: &str) -> Result<Vec<String>> {
    let filters = labels::filter(format!("{}={lab}", labels::LAB));
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let found = docker.list_networks(Some(options)).await;
    let found = found.map_err(|err| failure::engine("list networks", &err))?;
    Ok(found.into_iter().filter_map(|network| network.id).collect())
}

/// Returns when the engine tells that a container is on the network, or doesn't tell anything any more.
pub(super) async fn joined(docker: &Docker, network: &str, container: &str) {
    let filters = [("type", "network"), ("event", "connect"), ("network", network)];
    let filters: HashMap<String, Vec<String>> =
        filters.map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).into();
    let events = docker.events(Some(EventsOptionsBuilder::new().filters(&filters).build()));
    let it = |event: &EventMessage| {
        let attributes = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
        attributes.and_then(|attributes| attributes.get("container")).is_some_and(|id| id == container)
    };
    let mut joined = pin!(events.filter(|event| ready(!event.as_ref().is_ok_and(|event| !it(event)))));
    joined.next().await;
}

/// Removes a network after looking at its labels once more. Gone already is fine.
pub(super) async fn remove(docker: &Docker, id: &str, ours: impl Fn(&labels::Labels) -> bool) -> Result<()> {
    let what = format!("remove network {id}");
    let found = match docker.inspect_network(id, None::<InspectNetworkOptions>).await {
        Err(err) if failure::is_missing(&err) => return Ok(()),
        found => found.map_err(|err| failure::engine(&what, &err))?,
    };
    if !ours(&found.labels.unwrap_or_default()) {
        return Err(failure::plain(what, "it doesn't carry replab's label"));
    }
    failure::gone_is_fine(docker.remove_network(id).await, what)
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Scripted;
    use super::*;
    use crate::runtime::owner;

    #[tokio::test]
    async fn an_engine_whose_own_subnets_are_used_up_is_given_others() {
        let refusal = |status| ("POST", "/networks/create", status, br#"{"message":"nie ma wolnych"}"#.to_vec());
        let owner = owner::current("0011aabb".to_owned());
        for status in [400, 403, 409, 500] {
            let made = ("POST", "/networks/create", 201, br#"{"Id":"n1","Warning":""}"#.to_vec());
            let engine = Scripted::new(vec![refusal(status), made]);
            assert_eq!(make(&engine.docker, &owner, "n", "make n").await.unwrap(), "n1");
            let subnets: Vec<bool> = engine.asked().iter().map(|body| body.contains("Subnet")).collect();
            assert_eq!(subnets, [false, true], "{status}");
        }
        let why = make(&Scripted::new(vec![refusal(500)]).docker, &owner, "n", "make n").await.unwrap_err();
        assert!(why.why.contains("nie ma wolnych") && why.hint.is_some(), "{why}");
    }

    #[test]
    fn a_bridge_is_an_interface_of_this_host() {
        let interfaces = "Inter-|   Receive\n face |bytes\n    lo: 1 2\nbr-0011aabbccdd:  0 0\n";
        assert!(has_interface(interfaces, "br-0011aabbccdd") && has_interface(interfaces, "lo"));
        assert!(!has_interface(interfaces, "br-0011") && !has_interface("", "lo"));
    }

    /// The gateway is an address of this host, and yet another engine's: as two networks of two engines may have it.
    #[test]
    fn an_address_alone_proves_nothing() {
        let config = IpamConfig { gateway: Some("127.0.0.1".to_owned()), ..IpamConfig::default() };
        let ipam = Some(Ipam { config: Some(vec![config]), ..Ipam::default() });
        let id = Some("0011aabbccddeeff".to_owned());
        let other = NetworkInspect { id: id.clone(), ipam: ipam.clone(), ..NetworkInspect::default() };
        assert!(is_own_address(gateway(&other).expect("a gateway")) && !is_here(&other));
        let options = Some(HashMap::from([("com.docker.network.bridge.name".to_owned(), "lo".to_owned())]));
        let here = NetworkInspect { id, ipam, options, ..NetworkInspect::default() };
        assert_eq!(is_here(&here), cfg!(target_os = "linux"));
    }
}
