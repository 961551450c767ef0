//! Nodes go down, freeze and come back.

use std::sync::Arc;
use std::time::Duration;

use super::{Done, Failure, Lab, Steps, links};
use crate::model::NodeName;
use crate::model::msg::Happened;
use crate::pg::control::Control;
use crate::runtime::Runtime;

/// A fast stop with a connected frozen standby takes wal_sender_timeout (60 s by default): the stop's own limit must be
/// longer, or it becomes a crash (facts, "Stop, freeze, kill").
const STOP_LIMIT: Duration = Duration::from_secs(90);
/// A server that refuses to start is noticed after this long; asking the engine costs a little.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// Crash recovery of a lab's small server takes a second or two.
const START_LIMIT: Duration = Duration::from_mins(1);

pub async fn kill<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName, steps: &mut Steps) -> Done {
    steps.node(node, "kill", "kill -9 of the postmaster and all its children");
    lab.runtime.kill(node).await?;
    Ok(Happened::Plain)
}

pub async fn stop<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName, steps: &mut Steps) -> Done {
    steps.node(node, "stop", "pg_ctl stop -m fast");
    lab.phase(Some(node), "stopping").await;
    let done = lab.runtime.stop(node, STOP_LIMIT).await;
    lab.phase(Some(node), "").await;
    done?;
    Ok(Happened::Plain)
}

pub async fn start<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName, steps: &mut Steps) -> Done {
    steps.node(node, "start", "pg_ctl start");
    lab.phase(Some(node), "starting").await;
    let done = up(lab, node).await;
    lab.phase(Some(node), "").await;
    done
}

async fn up<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName) -> Done {
    lab.runtime.start(node).await?;
    let control = lab.control(node)?;
    control.set_address(lab.runtime.control_address(node).await?).await;
    // One that has ended already has no address to dial.
    match links::dial(lab, node).await {
        Err(_) if !lab.runtime.is_up(node).await.unwrap_or(true) => return Err(ended_early(node).await),
        dialled => dialled?,
    }
    ready(lab, node, &control).await?;
    lab.look_around().await;
    Ok(Happened::Plain)
}

/// Its last words are on their way still, and belong to the failure.
async fn ended_early(node: &NodeName) -> Failure {
    tokio::time::sleep(LOOK_EVERY).await;
    Failure(format!("{node} ended while it started; its log says why"))
}

/// Waits until the server answers, but not longer than it lives: one that refuses to start ends at once.
pub async fn ready<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName, control: &Control) -> Result<(), Failure> {
    tokio::select! {
        ready = control.until_ready(START_LIMIT) => Ok(ready?),
        failure = ended(lab, node) => Err(failure),
    }
}

/// Returns when the server that is being started has ended.
pub(super) async fn ended<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName) -> Failure {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !lab.runtime.is_up(node).await.unwrap_or(true) {
            return ended_early(node).await;
        }
    }
}

pub async fn freeze<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName, steps: &mut Steps) -> Done {
    steps.node(node, "pause", "kill -STOP of the postmaster and all its children");
    lab.runtime.freeze(node).await?;
    Ok(Happened::Plain)
}

pub async fn thaw<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName, steps: &mut Steps) -> Done {
    steps.node(node, "unpause", "kill -CONT of the postmaster and all its children");
    lab.runtime.thaw(node).await?;
    lab.control(node)?.reset().await;
    lab.look_around().await;
    Ok(Happened::Plain)
}
