//! One node's container: making it, and signals to it. Knows containers by id; no labs beyond their labels.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::time::Duration;

use bollard::Docker;
use bollard::container::AttachContainerResults;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerState, EndpointSettings, HealthConfig, HostConfig, NetworkingConfig, PortBinding,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, KillContainerOptionsBuilder,
};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::confine::{self, Limits};
use super::failure::{self, hinted, plain};
use super::image::Image;
use super::labels;
use super::network::{self, Coming};
use super::{template, wait};
use crate::model::NodeName;
use crate::runtime::{Owner, Result};

/// The server's port in its container.
pub(super) const PORT: u16 = 5432;
/// A signal that comes before the server has set its handlers is lost, so it is sent again after this.
const SIGNAL_AGAIN: Duration = Duration::from_secs(1);
/// How long the first node's start may keep others waiting.
const HEAD_START: Duration = Duration::from_millis(300);

/// What a node's container is made from.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) owner: &'a Owner,
    pub(super) node: &'a NodeName,
    /// The image's exact id: the template's, or the base image's for an empty node.
    pub(super) image: &'a str,
    pub(super) base: &'a Image,
    pub(super) network: &'a Coming,
    pub(super) limits: Limits,
    pub(super) port: u16,
}

impl Plan<'_> {
    /// Creates the container and returns its id. One of that name that an earlier, given-up attempt of this lab left is
    /// replaced.
    ///
    /// The requests are `flights`: an engine carries out what it was asked even when the asker has gone, so who gives up
    /// on a node must be able to wait for them before removing what there is.
    pub(super) async fn make(&self, docker: &Docker, flights: &TaskTracker, what: &str) -> Result<String> {
        let name = format!("replab-{}-{}", self.owner.lab, self.node);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let request = || {
            let (docker, options, body) = (docker.clone(), options.clone(), self.container());
            let flight = flights.spawn(async move { docker.create_container(Some(options), body).await });
            async { flight.await.map_err(|err| plain(what, err.to_string())) }
        };
        let early = self.network.peek().is_none();
        let made = match request().await? {
            Err(err) if failure::status(&err) == Some(409) && self.remove_own(docker, &name, what).await? => {
                request().await?
            }
            // It may be one that looks for the network already now.
            Err(err) if early && failure::status(&err).is_some() => {
                self.network.clone().await?;
                request().await?
            }
            made => made,
        };
        made.map(|made| made.id).map_err(|err| failure::engine(what, &err))
    }

    /// Removes the container of this name if it carries this very lab's and node's labels.
    async fn remove_own(&self, docker: &Docker, name: &str, what: &str) -> Result<bool> {
        let found = docker.inspect_container(name, None).await.map_err(|err| failure::engine(what, &err))?;
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        let mine = labels::filled(&labels, labels::LAB) == Some(self.owner.lab.as_str())
            && labels::filled(&labels, labels::NODE) == Some(self.node.as_str());
        match found.id.filter(|_| mine) {
            Some(id) => wait::remove(docker, &id, what).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// The container as the engine wants it described.
    fn container(&self) -> ContainerCreateBody {
        let endpoint = EndpointSettings { aliases: Some(vec![self.node.to_string()]), ..EndpointSettings::default() };
        ContainerCreateBody {
            hostname: Some(self.node.to_string()),
            image: Some(self.image.to_owned()),
            user: Some(confine::USER.to_owned()),
            entrypoint: Some(template::entrypoint()),
            cmd: Some(Vec::new()),
            env: Some(vec![format!("PGDATA={}", super::archive::DATA)]),
            labels: Some(labels::of_node(self.owner, self.node)),
            exposed_ports: Some(vec![format!("{PORT}/tcp")]),
            // For the first files: see `first_start`.
            attach_stdin: Some(true),
            open_stdin: Some(true),
            stdin_once: Some(true),
            stop_signal: Some("SIGINT".to_owned()),
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
            host_config: Some(self.host_config()),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network::name(self.owner), endpoint)])),
            }),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self) -> HostConfig {
        let binding =
            PortBinding { host_ip: Some(Ipv4Addr::LOCALHOST.to_string()), host_port: Some(self.port.to_string()) };
        HostConfig {
            network_mode: Some(network::name(self.owner)),
            port_bindings: Some(HashMap::from([(format!("{PORT}/tcp"), Some(vec![binding]))])),
            tmpfs: Some(template::instead_of_volumes(&self.base.volumes)),
            ..confine::host_config(self.limits)
        }
    }
}

/// Starts a container for the first time, telling its first process through standard input what to lay down.
///
/// The first one that is started gets ahead of the others: an engine that is asked for several at once brings them up in any
/// order. What takes it long, and one container after the other, is the network; so others take their turn when the first one is on
/// it. One that must be made again on another port has lost its head start.
pub(super) async fn first_start(
    docker: &Docker,
    id: &str,
    script: String,
    network: &str,
    turns: &Mutex<bool>,
) -> std::result::Result<(), Error> {
    let options = AttachContainerOptionsBuilder::new().stdin(true).stream(true).build();
    let mut begun = turns.lock().await;
    let AttachContainerResults { mut input, output } = docker.attach_container(id, Some(options)).await?;
    let first = !std::mem::replace(&mut *begun, true);
    let ahead = async move {
        if first {
            // Late news cost the others a moment, and nothing else.
            drop(timeout(HEAD_START, network::joined(docker, network, id)).await);
        }
        drop(begun);
    };
    let (started, told) = {
        let tell = async {
            input.write_all(script.as_bytes()).await?;
            input.shutdown().await
        };
        let start = async { tokio::join!(docker.start_container(id, None), tell) };
        let mut start = pin!(start);
        tokio::select! {
            // The engine's news are asked for before what they tell of can happen.
            biased;
            () = ahead => start.await,
            ended = &mut start => ended,
        }
    };
    // Its output is the log's, and isn't attached. But an engine that sees the connection close may throw away what it has not passed on
    // yet: it stays open until the engine closes it, when the container ends at the latest.
    tokio::spawn(async move {
        let (_open, mut output) = (input, output);
        while output.next().await.is_some() {}
    });
    started.and(told.map_err(Error::from))
}

/// What the engine says of a container's state.
pub(super) async fn state(docker: &Docker, id: &str, what: &str) -> Result<ContainerState> {
    let found = docker.inspect_container(id, None).await.map_err(|err| failure::engine(what, &err))?;
    Ok(found.state.unwrap_or_default())
}

/// The container's own address in the lab's network; only a running one has any.
pub(super) async fn address(docker: &Docker, id: &str, network: &str, what: &str) -> Result<IpAddr> {
    let found = docker.inspect_container(id, None).await.map_err(|err| failure::engine(what, &err))?;
    let endpoints = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let mut here = endpoints.into_values().filter(|endpoint| endpoint.network_id.as_deref() == Some(network));
    let address = here.find_map(|endpoint| endpoint.ip_address?.parse().ok());
    address.ok_or_else(|| plain(what, "it has no address: it isn't running"))
}

async fn signal(docker: &Docker, id: &str, name: &str) -> std::result::Result<(), Error> {
    let options = KillContainerOptionsBuilder::new().signal(name).build();
    docker.kill_container(id, Some(options)).await
}

/// Whether the container doesn't run, where the engine refused to act on it. Engines word that differently; what they tell of a
/// container's state they tell alike.
async fn is_down(docker: &Docker, id: &str, refusal: &Error) -> bool {
    failure::status(refusal).is_some()
        && state(docker, id, "").await.is_ok_and(|state| state.running != Some(true) && state.paused != Some(true))
}

/// Asks the server for a fast shutdown and waits for it. A frozen one is refused: a signal would thaw it silently.
pub(super) async fn stop(docker: &Docker, id: &str, limit: Duration, what: &str) -> Result<()> {
    let state = state(docker, id, what).await?;
    if state.paused == Some(true) {
        return Err(hinted(what, "it is frozen", "thaw it first, or kill it"));
    }
    if state.running != Some(true) {
        return Ok(());
    }
    match ask_to_stop(docker, id, limit, what, || wait::stopped(docker, id)).await? {
        Some(stopped) => stopped.map(drop).map_err(|err| failure::engine(what, &err)),
        None => Ok(()),
    }
}

/// Asks the first process for a fast shutdown, again and again, until `ended` is; None where it doesn't run.
pub(super) async fn ask_to_stop<T, F: Future<Output = T>>(
    docker: &Docker,
    id: &str,
    limit: Duration,
    what: &str,
    ended: impl Fn() -> F,
) -> Result<Option<T>> {
    let deadline = Instant::now() + limit;
    loop {
        match signal(docker, id, "SIGINT").await {
            Err(err) if is_down(docker, id, &err).await => return Ok(None),
            sent => sent.map_err(|err| failure::engine(what, &err))?,
        }
        let until = deadline.min(Instant::now() + SIGNAL_AGAIN);
        match timeout_at(until, ended()).await {
            Ok(end) => return Ok(Some(end)),
            Err(_) if Instant::now() >= deadline => return Err(failure::too_late(what, limit)),
            Err(_) => {}
        }
    }
}

/// SIGKILL to the container, frozen or not, and waits until it is dead.
pub(super) async fn kill(docker: &Docker, id: &str, limit: Duration, what: &str) -> Result<()> {
    match signal(docker, id, "SIGKILL").await {
        Err(err) if is_down(docker, id, &err).await => Ok(()),
        Err(err) => Err(failure::engine(what, &err)),
        Ok(()) => {
            if timeout(SIGNAL_AGAIN, wait::stopped(docker, id)).await.is_err()
                && state(docker, id, what).await?.paused == Some(true)
            {
                // Some engines leave a frozen container frozen, with the signal pending: that comes before all else when it is thawed.
                pause(docker, id, false, what).await?;
            }
            wait::until_stopped(docker, id, limit, what).await.map(|_| ())
        }
    }
}

/// Freezes a container, or thaws it. One that is so already is fine.
pub(super) async fn pause(docker: &Docker, id: &str, frozen: bool, what: &str) -> Result<()> {
    let asked = if frozen { docker.pause_container(id).await } else { docker.unpause_container(id).await };
    let Err(err) = asked else { return Ok(()) };
    let is_so = failure::status(&err).is_some() && state(docker, id, what).await?.paused == Some(frozen);
    if is_so { Ok(()) } else { Err(failure::engine(what, &err)) }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Scripted;
    use super::*;

    /// An engine that refuses every signal, pause and thaw with this status, and tells this state.
    fn refusing(status: u16, state: &str) -> Scripted {
        let refusal = |end| ("POST", end, status, br#"{"message":"nie da rady"}"#.to_vec());
        let state = format!(r#"{{"Id":"c1","State":{state}}}"#).into_bytes();
        let state = ("GET", "/containers/c1/json", 200, state);
        Scripted::new(vec![refusal("/kill"), refusal("/pause"), refusal("/unpause"), state])
    }

    const RUNNING: &str = r#"{"Running":true,"Paused":false}"#;
    const FROZEN: &str = r#"{"Running":true,"Paused":true}"#;
    const DOWN: &str = r#"{"Running":false,"Paused":false}"#;
    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_refusal_is_judged_by_the_containers_state() {
        for status in [409, 500] {
            let kill = async |state| kill(&refusing(status, state).docker, "c1", LIMIT, "kill p").await;
            assert!(kill(DOWN).await.is_ok(), "what is down needs no signal: {status}");
            assert!(kill(RUNNING).await.is_err() && kill(FROZEN).await.is_err(), "{status}");
            let stop = async |state| {
                ask_to_stop(&refusing(status, state).docker, "c1", LIMIT, "stop p", std::future::pending::<()>).await
            };
            assert!(matches!(stop(DOWN).await, Ok(None)) && stop(RUNNING).await.is_err(), "{status}");
            let pause =
                async |state, frozen| pause(&refusing(status, state).docker, "c1", frozen, "freeze p").await.is_ok();
            assert!(pause(FROZEN, true).await && pause(RUNNING, false).await, "it is so already: {status}");
            assert!(!pause(RUNNING, true).await && !pause(FROZEN, false).await, "{status}");
        }
    }
}
