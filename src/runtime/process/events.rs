//! The stream of events out of the runtime: bounded, in order, states never dropped. Knows no processes.

use tokio::sync::mpsc;

use crate::model::NodeName;
use crate::model::cluster::{LogLine, NodeState};
use crate::runtime::RuntimeEvent;

/// How many events may wait to be taken.
const ROOM: usize = 1024;
/// This much of the room is kept free of log lines.
const FOR_STATES: usize = 512;
/// More lines at once than this are thinned.
const BATCH: usize = 200;

/// The sending side.
#[derive(Clone, Debug)]
pub struct Events {
    sender: mpsc::Sender<RuntimeEvent>,
}

impl Events {
    /// A new stream and its receiver.
    pub fn new() -> (Self, mpsc::Receiver<RuntimeEvent>) {
        let (sender, receiver) = mpsc::channel(ROOM);
        (Self { sender }, receiver)
    }

    /// Tells a change of state; waits for room if it must. Fine if nobody listens any more.
    pub async fn state(&self, node: &NodeName, state: NodeState) {
        drop(self.sender.send(RuntimeEvent::State(node.clone(), state)).await);
    }

    /// Tells that a node's port is another one; waits and is dropped like a state.
    pub async fn moved(&self, node: &NodeName, from: u16, to: u16) {
        drop(self.sender.send(RuntimeEvent::Moved(node.clone(), from, to)).await);
    }

    /// Tells lines of a log, without ever waiting: lines for which there is no room are counted in `thinned`, and the
    /// next batch begins with a line that says how many.
    pub fn log(&self, node: &NodeName, mut lines: Vec<LogLine>, thinned: &mut usize) {
        if lines.is_empty() {
            return;
        }
        if self.sender.capacity() <= FOR_STATES {
            *thinned += lines.len();
            return;
        }
        let surplus = lines.len().saturating_sub(BATCH);
        lines.drain(..surplus);
        let left_out = std::mem::take(thinned) + surplus;
        if left_out > 0 {
            lines.insert(0, LogLine { severity: String::new(), text: format!("… {left_out} lines left out here") });
        }
        drop(self.sender.try_send(RuntimeEvent::Log(node.clone(), lines)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<LogLine> {
        vec![LogLine { severity: "LOG".to_owned(), text: "x".to_owned() }; count]
    }

    #[tokio::test]
    async fn a_flood_is_thinned_and_states_still_fit() {
        let (events, mut receiver) = Events::new();
        let node: NodeName = "s1".parse().expect("a name");
        let mut thinned = 0;
        for _ in 0..2 * ROOM {
            events.log(&node, lines(1), &mut thinned);
        }
        events.state(&node, NodeState::Frozen).await;
        assert_eq!(thinned, 2 * ROOM - FOR_STATES);
        while receiver.len() > 1 {
            receiver.recv().await;
        }
        assert_eq!(receiver.recv().await, Some(RuntimeEvent::State(node.clone(), NodeState::Frozen)));
        events.log(&node, lines(BATCH + 1), &mut thinned);
        let Some(RuntimeEvent::Log(_, batch)) = receiver.recv().await else { panic!("a batch") };
        assert_eq!(batch.len(), BATCH + 1);
        assert!(batch[0].text.contains(&(2 * ROOM - FOR_STATES + 1).to_string()), "{}", batch[0].text);
    }
}
