//! Watches the engine for one lab: its event stream becomes states, a ping now and then tells whether it answers.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, EventMessage};
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::failure;
use super::labels;
use super::logs::Followers;
use super::nodes::{Heard, Nodes};
use super::text::safe_text;
use crate::model::NodeName;
use crate::model::cluster::NodeState;
use crate::runtime::RuntimeEvent;

/// How often the engine is asked whether it is there.
const PING_EVERY: Duration = Duration::from_millis(700);
/// How long it may take to answer; with the above an engine that hangs is told of within two seconds, and shown by then.
const PING_LIMIT: Duration = Duration::from_millis(900);
/// How often a lost engine is tried.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// How long the list of containers may take.
const LIST_LIMIT: Duration = Duration::from_secs(5);
/// What is asked of the event stream; exec and health checks would flood it.
const ACTIONS: [&str; 5] = ["start", "die", "pause", "unpause", "destroy"];

/// The watch of one lab.
#[derive(Debug)]
pub(super) struct Watch {
    docker: Docker,
    lab: String,
    nodes: Nodes,
    tell: mpsc::Sender<RuntimeEvent>,
    followers: Followers,
}

/// Why nothing more is heard of the engine.
struct Broken {
    why: String,
    /// It doesn't answer; else only its stream of events has ended.
    is_lost: bool,
}

impl Watch {
    /// A watch that has not begun.
    pub(super) fn new(docker: Docker, lab: String, nodes: Nodes, tell: mpsc::Sender<RuntimeEvent>) -> Self {
        let followers = Followers::new(docker.clone(), tell.clone());
        Self { docker, lab, nodes, tell, followers }
    }

    /// Watches until it is dropped.
    pub(super) async fn run(mut self) {
        let mut since = now();
        let mut retry = interval(RETRY_EVERY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let broken = self.listen(&since).await;
            self.nodes.forget_given_up_jobs();
            // A stream may end by itself, and the engine be there; after a lost ping there is nothing to ask first.
            let mut told = broken.is_lost;
            if told {
                self.tell_lost(&broken.why, "a ping got no answer").await;
            }
            let states = loop {
                retry.tick().await;
                since = now();
                match self.look().await {
                    Ok(states) => break states,
                    Err(why) if told => tracing::debug!(why, "the engine is still away"),
                    Err(why) => {
                        self.tell_lost(&broken.why, &why).await;
                        told = true;
                    }
                }
            };
            if told {
                self.send(RuntimeEvent::Engine(None)).await;
            }
            for (name, id, state) in states {
                self.tell_state(&name, &id, state).await;
            }
        }
    }

    /// Passes events on until the stream or the engine breaks; returns why.
    async fn listen(&mut self, since: &str) -> Broken {
        let mut filters = labels::filter(format!("{}={}", labels::LAB, self.lab));
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        filters.insert("event".to_owned(), ACTIONS.map(str::to_owned).to_vec());
        let options = EventsOptionsBuilder::new().since(since).filters(&filters).build();
        let docker = self.docker.clone();
        let mut events = Box::pin(docker.events(Some(options)));
        let mut pings = Box::pin(ping_until_lost(docker.clone()));
        loop {
            tokio::select! {
                why = &mut pings => return Broken { why, is_lost: true },
                event = events.next() => match event {
                    Some(Ok(event)) => self.hear(event).await,
                    Some(Err(err)) => return Broken { why: safe_text(&failure::reason(&err)), is_lost: false },
                    None => return Broken { why: "the engine ended its stream of events".to_owned(), is_lost: false },
                },
            }
        }
    }

    async fn hear(&mut self, event: EventMessage) {
        let (Some(action), Some(actor)) = (event.action, event.actor) else { return };
        let (id, attributes) = (actor.id.unwrap_or_default(), actor.attributes.unwrap_or_default());
        let name = attributes.get(labels::NODE).and_then(|name| name.parse::<NodeName>().ok());
        let (Some(name), Some(state)) = (name, state_after(&action, &attributes)) else { return };
        if action == "destroy" {
            self.followers.gone(&id);
        }
        if self.nodes.hear(&name, &id, &action) == Heard::Tell {
            self.tell_state(&name, &id, state).await;
        }
    }

    async fn tell_state(&mut self, name: &NodeName, id: &str, state: NodeState) {
        if matches!(state, NodeState::Running | NodeState::Frozen) {
            self.followers.started(name, id);
        }
        self.send(RuntimeEvent::State(name.clone(), state)).await;
    }

    /// A fresh look at all nodes, after the stream broke. An engine that is away is noticed by the ping, without the
    /// time that a long list may take.
    async fn look(&self) -> Result<Vec<(NodeName, String, NodeState)>, String> {
        ping(&self.docker).await?;
        let filters = labels::filter(format!("{}={}", labels::LAB, self.lab));
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = timeout(LIST_LIMIT, self.docker.list_containers(Some(options))).await;
        let listed = listed.map_err(|_| "the engine doesn't list its containers in time".to_owned())?;
        let listed = listed.map_err(|err| failure::reason(&err))?;
        // A container that stays up while its server is worked on says nothing of the server.
        let worked_on = |name: &NodeName| self.nodes.held(name).is_some_and(|held| !held.serves());
        let known = listed.into_iter().filter_map(read_summary).filter(|(name, ..)| !worked_on(name));
        Ok(known.filter(|(name, id, _)| self.nodes.hear(name, id, "look") == Heard::Tell).collect())
    }

    async fn tell_lost(&self, broken: &str, why: &str) {
        tracing::warn!(broken, why, "the engine is away");
        self.send(RuntimeEvent::Engine(Some(broken.to_owned()))).await;
    }

    async fn send(&self, event: RuntimeEvent) {
        // Nobody listens any more: the lab is ending.
        let _ = self.tell.send(event).await;
    }
}

/// Now, as the engine reads it: seconds with a fraction.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

async fn ping_until_lost(docker: Docker) -> String {
    let mut ticks = interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(why) = ping(&docker).await {
            return why;
        }
    }
}

async fn ping(docker: &Docker) -> Result<(), String> {
    match timeout(PING_LIMIT, docker.ping()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(err)) => Err(safe_text(&failure::reason(&err))),
        Err(_) => Err("the engine doesn't answer".to_owned()),
    }
}

fn state_after(action: &str, attributes: &HashMap<String, String>) -> Option<NodeState> {
    match action {
        "start" | "unpause" => Some(NodeState::Running),
        "pause" => Some(NodeState::Frozen),
        "die" => Some(NodeState::Exited(attributes.get("exitCode").and_then(|code| code.parse().ok()))),
        "destroy" => Some(NodeState::Exited(None)),
        _ => None,
    }
}

fn read_summary(found: ContainerSummary) -> Option<(NodeName, String, NodeState)> {
    let name = found.labels?.get(labels::NODE)?.parse().ok()?;
    let state = match found.state? {
        ContainerSummaryStateEnum::CREATED => NodeState::Created,
        ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::STOPPING => NodeState::Running,
        ContainerSummaryStateEnum::PAUSED => NodeState::Frozen,
        _ => NodeState::Exited(exit_code(&found.status.unwrap_or_default())),
    };
    Some((name, found.id?, state))
}

/// The code in "Exited (137) 3 seconds ago".
fn exit_code(status: &str) -> Option<i64> {
    status.split_once('(')?.1.split_once(')')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_become_states() {
        let code = HashMap::from([("exitCode".to_owned(), "137".to_owned())]);
        assert_eq!(state_after("die", &code), Some(NodeState::Exited(Some(137))));
        assert_eq!(state_after("pause", &code), Some(NodeState::Frozen));
        assert_eq!(state_after("unpause", &code), Some(NodeState::Running));
        assert_eq!(state_after("exec_start: sh", &code), None);
    }

    #[test]
    fn a_list_tells_states_too() {
        let found = |state, status: &str| ContainerSummary {
            id: Some("c1".into()),
            labels: Some(HashMap::from([(labels::NODE.to_owned(), "p".to_owned())])),
            state: Some(state),
            status: Some(status.into()),
            ..ContainerSummary::default()
        };
        let told = |state, status| read_summary(found(state, status)).map(|(_, _, state)| state);
        assert_eq!(told(ContainerSummaryStateEnum::PAUSED, "Up 3 seconds (Paused)"), Some(NodeState::Frozen));
        let exited = told(ContainerSummaryStateEnum::EXITED, "Exited (137) 3 seconds ago");
        assert_eq!(exited, Some(NodeState::Exited(Some(137))));
    }
}
