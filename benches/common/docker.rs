//! Containers without replab: bare ones that do nothing, and the way a person goes by hand. All carry a lab's labels, so that
//! [`sweep`] finds them, and `replab clean` after a crash.

use std::collections::HashMap;
use std::net::TcpListener;
use std::time::Instant;

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, NetworkCreateRequest, NetworkingConfig, PortBinding,
};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use futures_util::future::{join_all, try_join_all};
use replab::runtime::docker::{self, Engine, Image};
use replab::runtime::{Owner, owner};

use super::processes::{session, streaming};
use super::{Oops, Run, ms};

#[path = "../../tests/common/images.rs"]
mod images;

/// PostgreSQL's version in the containers.
const MAJOR: u32 = 18;
/// A data directory of the container's own.
const DATA: &str = "/tmp/data";

/// The engine and its image, built if it is missing.
pub async fn ground() -> Run<(Engine, Image)> {
    images::ground_or_skip(MAJOR).await.ok_or_else(|| Oops::from("no Docker engine or no image"))
}

/// Removes whatever this process has on the engine; templates stay.
pub async fn sweep() {
    let Ok(engine) = Engine::connect().await else { return };
    let me = owner::current("00000000");
    let mine = |other: &Owner| (other.pid, other.pid_start) == (me.pid, me.pid_start);
    let Ok(left) = docker::leftovers(&engine, mine).await else { return };
    let (networks, containers): (Vec<_>, Vec<_>) =
        left.into_iter().filter(|one| one.alive).partition(|one| one.kind == "network");
    for group in [containers, networks] {
        for (one, gone) in group.iter().zip(join_all(group.iter().map(|one| docker::remove(&engine, one))).await) {
            if let Err(why) = gone {
                eprintln!("{} stays: {why}", one.name);
            }
        }
    }
}

/// Somebody without replab, with a network of his own.
#[derive(Debug)]
pub struct Person {
    docker: Docker,
    labels: HashMap<String, String>,
    network: String,
    image: String,
}

impl Person {
    /// Connects and makes the network: the time counts from before this.
    pub async fn begin(engine: &Engine, image: &str) -> Run<Self> {
        let docker = Docker::connect_with_unix(&engine.socket().to_string_lossy(), 60, bollard::API_DEFAULT_VERSION)?;
        let docker = docker.negotiate_version().await?;
        let lab = owner::new_lab_id();
        let labels: HashMap<String, String> = owner::to_labels(&owner::current(lab.clone())).into_iter().collect();
        let name = format!("replab-bench-{lab}");
        let request = NetworkCreateRequest { name, labels: Some(labels.clone()), ..NetworkCreateRequest::default() };
        let network = docker.create_network(request).await?.id;
        Ok(Self { docker, labels, network, image: image.to_owned() })
    }

    /// Creates and starts a container; its port 5432 is published on this one of 127.0.0.1.
    async fn run(&self, name: &str, port: u16, shell: &str) -> Run<()> {
        let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(port.to_string()) };
        let endpoint = EndpointSettings { aliases: Some(vec![name.to_owned()]), ..EndpointSettings::default() };
        let body = ContainerCreateBody {
            hostname: Some(name.to_owned()),
            image: Some(self.image.clone()),
            user: Some("postgres".to_owned()),
            entrypoint: Some(vec!["/bin/sh".to_owned(), "-c".to_owned()]),
            cmd: Some(vec![shell.to_owned()]),
            labels: Some(self.labels.clone()),
            exposed_ports: Some(vec!["5432/tcp".to_owned()]),
            host_config: Some(HostConfig {
                network_mode: Some(self.network.clone()),
                port_bindings: Some(HashMap::from([("5432/tcp".to_owned(), Some(vec![binding]))])),
                ..HostConfig::default()
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(self.network.clone(), endpoint)])),
            }),
            ..ContainerCreateBody::default()
        };
        let name = format!("{}-{name}", self.labels.get(owner::label::LAB).map_or("bench", String::as_str));
        let options = CreateContainerOptionsBuilder::new().name(&format!("replab-bench-{name}")).build();
        let made = self.docker.create_container(Some(options), body).await?;
        Ok(self.docker.start_container(&made.id, None).await?)
    }
}

/// So many free ports, each another one.
fn free_ports(count: usize) -> Run<Vec<u16>> {
    let held = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    Ok(held.iter().map(|one| one.local_addr().map(|address| address.port())).collect::<Result<_, _>>()?)
}

/// So many containers that only sleep, all at once, on a network of their own.
pub async fn bare(engine: &Engine, image: &str, count: usize) -> Run<f64> {
    let began = Instant::now();
    let person = Person::begin(engine, image).await?;
    let nodes: Vec<(String, u16)> =
        free_ports(count)?.into_iter().enumerate().map(|(n, port)| (format!("n{n}"), port)).collect();
    try_join_all(nodes.iter().map(|(name, port)| person.run(name, *port, "exec sleep 3600"))).await?;
    Ok(ms(began))
}

/// One after another: a container that runs initdb and the server; for each standby one that runs `pg_basebackup` and the
/// server; each waited for until it answers or streams. Without the image's entry point, which would start the server twice.
pub async fn by_hand(engine: &Engine, image: &str, standbys: usize) -> Run<f64> {
    let began = Instant::now();
    let person = Person::begin(engine, image).await?;
    // The default ends at ten standbys, and each base backup brings a checkpoint that removes WAL which the one before needs still.
    let senders = "-c max_wal_senders=40 -c wal_keep_size=256MB";
    let serve = format!("exec postgres -D {DATA} -c 'listen_addresses=*' -c unix_socket_directories=/tmp {senders}");
    let primary = format!(
        "initdb -D {DATA} -U postgres -A trust --no-sync && \
         echo 'host all,replication all all trust' >>{DATA}/pg_hba.conf && {serve}"
    );
    let ports = free_ports(standbys + 1)?;
    person.run("p", ports[0], &primary).await?;
    let client = session(ports[0]).await?;
    for (node, port) in ports.into_iter().enumerate().skip(1) {
        let from = format!("host=p user=postgres application_name=s{node}");
        let copy = format!("pg_basebackup -D {DATA} -R -c fast --no-sync -d '{from}' && {serve}");
        person.run(&format!("s{node}"), port, &copy).await?;
        streaming(&client, node).await?;
    }
    Ok(ms(began))
}
