//! What this host and an engine's containers reach of each other. Where it can't be known it is proved, by a container that
//! tries. Knows no nodes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, PortBinding};
use bollard::query_parameters::CreateContainerOptions;
use futures_util::future::{BoxFuture, select_ok};
use futures_util::{FutureExt as _, TryFutureExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::confine::{self, Limits};
use super::failure::{self, hinted, plain};
use super::image::Image;
use super::network::{self, LabNetwork};
use super::{DockerRuntime, labels, template, wait};
use crate::relay;
use crate::runtime::{Owner, Result, RuntimeError};

/// What the containers of an engine on another host call this one.
const HOST: &str = "host.docker.internal";
/// A container whose tries have not ended by then hangs. Until then they take their time: on a busy machine it may be long.
const WAY_LIMIT: Duration = Duration::from_secs(15);
/// Who came while the last try ended is heard of within this.
const LATE: Duration = Duration::from_millis(100);
/// A port is published before its container runs; some engines forward it by a program of their own.
const PORT_LIMIT: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(50);
/// The port that the container would serve at. Nobody does; engines that forward ports take connections all the same.
const PORT: &str = "5432/tcp";
/// What a connection of a container is made with: a program that every image has.
const TRY: &str = "pg_isready -q -t 1";

/// What was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// Ports of containers are at 127.0.0.1 here.
    pub(super) ports: bool,
    /// Where relays listen, and what containers call this host; an error says why they don't get here.
    pub(super) way: std::result::Result<(SocketAddr, String), String>,
}

impl DockerRuntime {
    /// What `prove` would refuse, each by itself: that ports of containers aren't here, that containers don't reach this host. Makes the lab's
    /// network, which `destroy_all` removes.
    pub async fn examine(&self) -> Result<(Result<()>, Result<()>)> {
        let network = network::begin(&self.engine.docker, &self.owner, &self.flights).await?;
        let reach = self.reach(&network).await?;
        let ports = if reach.ports { Ok(()) } else { Err(no_ports(self.engine.socket())) };
        Ok((ports, reach.way.map(drop).map_err(|tried| no_way(&network, &tried))))
    }

    /// Refuses an engine whose containers can't be reached from here, and, where `links` between nodes are to be faulted, one whose
    /// containers don't reach this host. May make the lab's network, which `destroy_all` removes.
    pub async fn prove(&self, links: bool) -> Result<()> {
        if !links && self.engine.is_near().await {
            return Ok(());
        }
        let network = network::begin(&self.engine.docker, &self.owner, &self.flights).await?;
        if network.shared && !links {
            return Ok(());
        }
        let reach = self.reach(&network).await?;
        if !reach.ports {
            return Err(no_ports(self.engine.socket()));
        }
        match reach.way {
            Err(tried) if links => Err(no_way(&network, &tried)),
            _ => Ok(()),
        }
    }

    /// What containers and this host reach of each other; tried once, and anew after a reset.
    pub(super) async fn reach(&self, network: &LabNetwork) -> Result<Reach> {
        let mut known = self.reach.lock().await;
        if let Some(reach) = &*known {
            return Ok(reach.clone());
        }
        let probe = Probe { docker: &self.engine.docker, owner: &self.owner, image: &self.image, network };
        let reach = probe.prove().await?;
        *known = Some(reach.clone());
        Ok(reach)
    }
}

/// A container that tries.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    pub(super) docker: &'a Docker,
    pub(super) owner: &'a Owner,
    pub(super) image: &'a Image,
    pub(super) network: &'a LabNetwork,
}

impl Probe<'_> {
    /// Tries both ways; takes half a second, and as long as the tries take where nothing gets through.
    pub(super) async fn prove(&self) -> Result<Reach> {
        let what = "try what containers and this host reach of each other";
        let mut doors = Vec::new();
        for (address, name) in self.network.ways() {
            // A network's bridge may come to be with its first container, which this is; where it comes to be elsewhere, nobody comes.
            if let Ok(listener) = relay::door(SocketAddr::new(address, 0)).and_then(|door| door.listen(16)) {
                let port = listener.local_addr().map_err(|err| plain(what, err.to_string()))?.port();
                doors.push((listener, SocketAddr::new(address, 0), name, port));
            }
        }
        let tries: Vec<String> =
            doors.iter().map(|(_, _, name, port)| format!("{TRY} -h {name} -p {port} &")).collect();
        // It ends with its tries, and not before its port was asked for.
        let script = format!("{}\nsleep {} &\nwait", tries.join("\n"), PORT_LIMIT.as_secs());
        let made = self.docker.create_container(None::<CreateContainerOptions>, self.container(script)).await;
        let id = made.map_err(|err| failure::engine(what, &err))?.id;
        let reach = self.with_container(&id, doors, what).await;
        wait::remove(self.docker, &id, what).await?;
        reach
    }

    async fn with_container(
        &self,
        id: &str,
        doors: Vec<(TcpListener, SocketAddr, String, u16)>,
        what: &str,
    ) -> Result<Reach> {
        let comes = |(listener, address, name, _): (TcpListener, SocketAddr, String, u16)| -> BoxFuture<'static, _> {
            async move { listener.accept().await.map(|_| (address, name)) }.boxed()
        };
        let names: Vec<String> = doors.iter().map(|(_, _, name, _)| name.clone()).collect();
        let mut coming = if doors.is_empty() {
            std::future::pending().boxed()
        } else {
            select_ok(doors.into_iter().map(comes)).map_ok(|(way, _)| way).boxed()
        };
        self.docker.start_container(id, None).await.map_err(|err| failure::engine(what, &err))?;
        let began = Instant::now();
        let published = async {
            let port = if self.network.shared { None } else { self.published(id, what).await? };
            Ok::<_, RuntimeError>(match port {
                Some(port) => answers(port, began + PORT_LIMIT).await,
                None => self.network.shared,
            })
        };
        let ended = timeout_at(began + WAY_LIMIT, wait::stopped(self.docker, id));
        let comes = async {
            tokio::select! {
                biased;
                way = &mut coming => Some(way),
                _ = ended => timeout(LATE, &mut coming).await.ok(),
            }
        };
        let (ports, way) = tokio::join!(published, comes);
        let way = way.ok_or_else(|| names.join(", ")).and_then(|way| way.map_err(|err| err.to_string()));
        // Who comes in by a network's own gateway shares it with this host, and ports are there, too.
        let gateway = way.as_ref().is_ok_and(|(address, _)| !address.ip().is_unspecified());
        Ok(Reach { ports: ports? || gateway, way })
    }

    /// The port on 127.0.0.1 that the engine has chosen.
    async fn published(&self, id: &str, what: &str) -> Result<Option<u16>> {
        let found = self.docker.inspect_container(id, None).await.map_err(|err| failure::engine(what, &err))?;
        let mut ports = found.network_settings.and_then(|settings| settings.ports).unwrap_or_default();
        let bindings = ports.remove(PORT).flatten().unwrap_or_default();
        Ok(bindings.into_iter().find_map(|binding| binding.host_port?.parse().ok()))
    }

    fn container(&self, script: String) -> ContainerCreateBody {
        let binding = PortBinding { host_ip: Some(Ipv4Addr::LOCALHOST.to_string()), host_port: Some(String::new()) };
        let ports = HashMap::from([(PORT.to_owned(), Some(vec![binding]))]);
        ContainerCreateBody {
            image: Some(self.image.id.clone()),
            user: Some(confine::USER.to_owned()),
            entrypoint: Some(["/bin/sh", "-c"].map(str::to_owned).to_vec()),
            cmd: Some(vec![script]),
            labels: Some(labels::of_lab(self.owner)),
            exposed_ports: Some(vec![PORT.to_owned()]),
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
            host_config: Some(HostConfig {
                network_mode: Some(network::name(self.owner)),
                // Where the network is this host's, so are its ports.
                port_bindings: (!self.network.shared).then_some(ports),
                tmpfs: Some(template::instead_of_volumes(&self.image.volumes)),
                ..confine::host_config(Limits::default())
            }),
            ..ContainerCreateBody::default()
        }
    }
}

/// Whether somebody takes connections at this port of 127.0.0.1, by then.
async fn answers(port: u16, end: Instant) -> bool {
    let tries = async {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            sleep(AGAIN).await;
        }
    };
    timeout(end.saturating_duration_since(Instant::now()), tries).await.is_ok()
}

impl LabNetwork {
    /// Where containers may reach this host: at the network's gateway, if that is an address of this host, and by the name that
    /// engines on another host give it. That name leads to this host's own loopback, or to another address of it,
    /// and who comes in there comes from this host: others aren't taken (`relay::door`).
    fn ways(&self) -> Vec<(IpAddr, String)> {
        let gateway = self.gateway.map(|gateway| (gateway, gateway.to_string()));
        let far = (!self.shared).then(|| (Ipv4Addr::UNSPECIFIED.into(), HOST.to_owned()));
        gateway.into_iter().chain(far).collect()
    }
}

/// No port of a container is here.
pub(super) fn no_ports(socket: &std::path::Path) -> RuntimeError {
    hinted(
        "reach a container's port",
        format!(
            "containers run, but their ports are not at 127.0.0.1 here: the engine behind {} is in another network than \
             replab (replab in a container that has the engine's socket, most likely)",
            socket.display()
        ),
        "run replab where the engine runs, or its container with --network host; or --runtime process",
    )
}

/// No connection of a container gets here.
pub(super) fn no_way(network: &LabNetwork, names: &str) -> RuntimeError {
    let what = "link nodes through this host";
    if network.shared {
        let why =
            format!("no connection of a container reaches this host at {names}: a firewall drops it, most likely");
        return hinted(what, why, format!("allow it: {ALLOW}; or --runtime process"));
    }
    let why = format!("no connection of a container reaches this host (tried: {names})");
    hinted(what, why, "this engine has no way from containers to this host: --runtime process plays it")
}

/// The command that lets containers reach this host through its firewall, until the machine is started anew.
pub(super) const ALLOW: &str = "sudo iptables -I INPUT -i br-+ -p tcp -j ACCEPT";

#[cfg(test)]
mod tests {
    use super::*;

    /// Where containers may come in: at their network's own gateway, or from this host itself, which the unspecified address stands for.
    #[test]
    fn nobody_beyond_this_machine_is_let_in() {
        let gateway: Option<IpAddr> = "172.20.0.1".parse().ok();
        for (shared, gateway) in [(true, gateway), (false, gateway), (false, None)] {
            let network = LabNetwork { id: "n".into(), gateway, shared };
            for (address, _) in network.ways() {
                assert!(address.is_unspecified() || Some(address) == gateway, "{address}");
            }
            assert_eq!(
                network.ways().iter().any(|(_, name)| name == HOST),
                !shared,
                "by name only where it is elsewhere"
            );
        }
    }

    #[tokio::test]
    async fn a_port_is_asked_until_the_time_is_up() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        assert!(answers(port, Instant::now() + PORT_LIMIT).await);
        drop(listener);
        assert!(!answers(port, Instant::now() + Duration::from_millis(120)).await);
    }
}
