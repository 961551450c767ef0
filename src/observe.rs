//! Watching: one sampler per node, on the lab's own connection, and the runtime's events. What is seen becomes messages;
//! a failed look is one too. Knows nothing of what it means.

mod clock;
pub mod probe;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use clock::Clock;

use crate::drive::{self, Lab};
use crate::model::NodeName;
use crate::model::cluster::{Look, NodeState, Observation};
use crate::model::msg::Msg;
use crate::pg::control::Control;
use crate::runtime::{Runtime, RuntimeEvent};

/// Looks per second: 4.
const EVERY: Duration = Duration::from_millis(250);
/// A look that takes longer has failed: a frozen server shows within a second.
const LIMIT: Duration = Duration::from_millis(600);
/// The heart beats ten times a second (facts, "Lag and detection").
const BEAT: Duration = Duration::from_millis(100);

/// A flat-out writer fills some ten megabytes between two looks at the room.
const ROOM_EVERY: Duration = Duration::from_millis(500);
/// An engine that takes longer to tell the room doesn't answer.
const ROOM_LIMIT: Duration = Duration::from_secs(5);

/// Watches a node until it is told to stop.
pub fn watch(node: NodeName, control: Control, out: mpsc::Sender<Msg>, stop: CancellationToken) {
    tokio::spawn(async move {
        let mut clock = Clock::every(EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.tick() => {}
            }
            let look = tokio::select! {
                () = stop.cancelled() => return,
                look = look(&control) => look,
            };
            let msg = Msg::Observed(Observation::Node(node.clone(), look));
            if out.send(msg).await.is_err() {
                return;
            }
        }
    });
}

async fn look(control: &Control) -> Look {
    match timeout(LIMIT, control.sample()).await {
        Ok(Ok(sample)) => Look::Sample(Box::new(sample)),
        Ok(Err(why)) => Look::Unreachable(why.to_string()),
        Err(_) => Look::Unreachable(format!("no answer within {} ms", LIMIT.as_millis())),
    }
}

/// Watches the room on the data's disk. A look that is dear (an engine elsewhere is asked through a container) is taken
/// seldom: it may cost a hundredth of the time.
pub fn room<R: Runtime>(lab: &Arc<Lab<R>>) {
    let lab = Arc::clone(lab);
    tokio::spawn(async move {
        loop {
            let began = Instant::now();
            let free = timeout(ROOM_LIMIT, lab.runtime.free_bytes()).await.ok().flatten();
            lab.tell(Msg::Observed(Observation::Disk(free))).await;
            tokio::select! {
                () = lab.end.cancelled() => return,
                () = tokio::time::sleep(ROOM_EVERY.max(began.elapsed() * 100)) => {}
            }
        }
    });
}

/// Turns the runtime's events into messages until the lab ends. Links learn where a node is, and that it is down.
pub fn follow<R: Runtime>(lab: &Arc<Lab<R>>) {
    let Some(mut events) = lab.runtime.events() else { return };
    let lab = Arc::clone(lab);
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                () = lab.end.cancelled() => return,
                event = events.recv() => event,
            };
            let Some(event) = event else { return };
            if let RuntimeEvent::State(node, NodeState::Exited(_) | NodeState::Running) = &event {
                let (lab, node) = (Arc::clone(&lab), node.clone());
                tokio::spawn(async move { drive::dial_again(&lab, &node).await });
            }
            if lab.out.send(Msg::Observed(observation(event))).await.is_err() {
                return;
            }
        }
    });
}

fn observation(event: RuntimeEvent) -> Observation {
    match event {
        RuntimeEvent::State(node, state) => Observation::Node(node, Look::State(state)),
        RuntimeEvent::Log(node, lines) => Observation::Node(node, Look::Log(lines)),
        RuntimeEvent::Moved(node, from, to) => Observation::Node(node, Look::Moved { from, to }),
        RuntimeEvent::Engine(why) => Observation::Engine(why),
    }
}

/// Beats on `control` until told to stop. A beat that fails is a silent heart: the samples say why.
pub fn beat(control: Control, stop: CancellationToken) {
    tokio::spawn(async move {
        let mut clock = Clock::every(BEAT);
        let mut count = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.tick() => {}
            }
            count += 1;
            if let Err(why) = control.beat(count).await {
                tracing::debug!(%why, "no heartbeat");
            }
        }
    });
}
