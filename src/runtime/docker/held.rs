//! A container that stays up while its server is worked on: stopped, a program run in its place, and the server started again. To
//! start a container costs several times what a server or a program in it costs. Knows one container; `node.sh` is the other end.
//!
//! What is to be done comes to the container's first process by standard input; when something has ended it says so on standard output,
//! which is nobody else's: servers log to standard error. When nobody holds it any more it ends, and serves nothing.
//!
//! An engine may throw away what it was given and has not passed on yet when the connection is closed (Docker from 25 on does). So nobody
//! lets go of a container before its first process has said that it heard.

use std::pin::Pin;
use std::time::Duration;

use bollard::Docker;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::query_parameters::AttachContainerOptionsBuilder;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::failure::{self, plain};
use super::node;
use crate::model::NodeName;
use crate::model::cluster::NodeState;
use crate::runtime::{Result, RuntimeEvent};

/// Ends what is told to the first process: see `node.sh`.
const THAT_IS_ALL: &str = "# replab: that is all";
/// What it says when a server or a program has ended, before the exit code.
const ENDED: &str = "ended ";
/// What it says when it has heard that it is let go.
const FREE: &str = "free";
/// How long it may take to hear that.
const LET_GO_LIMIT: Duration = Duration::from_secs(10);

/// What goes on in the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The server runs.
    Serves,
    /// A program does.
    Works,
    /// Neither; the exit code of the last.
    Idle(i64),
    /// It was told that it is let go, and has not said that it heard.
    Leaves,
    /// It needs nobody any more: the server takes the first process's place.
    Free,
    /// The container doesn't run any more.
    Gone,
}

/// A held container.
pub(super) struct Held {
    input: Mutex<Pin<Box<dyn AsyncWrite + Send>>>,
    phase: watch::Sender<Phase>,
    _listening: DropGuard,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("phase", &*self.phase.borrow()).finish_non_exhaustive()
    }
}

impl Held {
    /// Starts a container that was told to be held, and its server. `tell` hears when that ends.
    pub(super) async fn start(
        docker: &Docker,
        id: &str,
        name: &NodeName,
        tell: mpsc::Sender<RuntimeEvent>,
    ) -> std::result::Result<Self, Error> {
        let options = AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stream(true).build();
        let AttachContainerResults { input, output } = docker.attach_container(id, Some(options)).await?;
        docker.start_container(id, None).await?;
        let (phase, end) = (watch::Sender::new(Phase::Serves), CancellationToken::new());
        let listening = listen(output, phase.clone(), name.clone(), tell);
        tokio::spawn(end.clone().run_until_cancelled_owned(listening));
        Ok(Self { input: Mutex::new(input), phase, _listening: end.drop_guard() })
    }

    /// Whether nothing runs in it, and something can be begun.
    pub(super) fn is_idle(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Idle(_))
    }

    /// Whether its server runs.
    pub(super) fn serves(&self) -> bool {
        *self.phase.borrow() == Phase::Serves
    }

    /// Whether the container went down by itself.
    pub(super) fn is_gone(&self) -> bool {
        *self.phase.borrow() == Phase::Gone
    }

    /// Asks the server for a fast shutdown and waits until it has ended.
    pub(super) async fn stop(&self, docker: &Docker, id: &str, limit: Duration, what: &str) -> Result<()> {
        node::ask_to_stop(docker, id, limit, what, || self.over(Phase::Serves)).await.map(drop)
    }

    /// Runs this as a program and returns its exit code.
    pub(super) async fn run(&self, script: &str, limit: Duration, what: &str) -> Result<i64> {
        self.phase.send_replace(Phase::Works);
        self.tell(script, what).await?;
        match timeout(limit, self.over(Phase::Works)).await {
            Ok(Phase::Idle(code)) => Ok(code),
            Ok(_) => Err(plain(what, "its container went down meanwhile")),
            Err(_) => Err(failure::too_late(what, limit)),
        }
    }

    /// Starts the server again, to be worked on once more.
    pub(super) async fn serve(&self, what: &str) -> Result<()> {
        self.phase.send_replace(Phase::Serves);
        self.tell("serve \"$@\"\n", what).await
    }

    /// Starts the server for good: it takes the first process's place. When this returns well, nothing is on its way any more.
    pub(super) async fn let_go(&self, what: &str) -> Result<()> {
        self.phase.send_replace(Phase::Leaves);
        self.tell(&format!("trap - INT\necho '{FREE}'\nexec postgres \"$@\" </dev/null\n"), what).await?;
        match timeout(LET_GO_LIMIT, self.over(Phase::Leaves)).await {
            Ok(Phase::Free) => Ok(()),
            Ok(_) => Err(plain(what, "its container went down before it was told to serve")),
            Err(_) => Err(plain(what, "its container does not say that it was told to serve")),
        }
    }

    async fn tell(&self, script: &str, what: &str) -> Result<()> {
        let mut input = self.input.lock().await;
        let told = async {
            input.write_all(format!("{script}{THAT_IS_ALL}\n").as_bytes()).await?;
            input.flush().await
        };
        told.await.map_err(|err| plain(what, format!("its container can't be told: {err}")))
    }

    /// What comes after a phase.
    async fn over(&self, phase: Phase) -> Phase {
        let mut told = self.phase.subscribe();
        // The sender lives as long as this.
        told.wait_for(|now| *now != phase).await.map_or(Phase::Gone, |now| *now)
    }
}

/// Takes in what the first process says.
async fn listen(
    mut output: Pin<Box<dyn Stream<Item = std::result::Result<LogOutput, Error>> + Send>>,
    phase: watch::Sender<Phase>,
    node: NodeName,
    tell: mpsc::Sender<RuntimeEvent>,
) {
    let mut said = String::new();
    while let Some(Ok(part)) = output.next().await {
        let LogOutput::StdOut { message } = part else { continue };
        said.push_str(&String::from_utf8_lossy(&message));
        while let Some(next) = next_phase(&mut said) {
            let before = phase.send_replace(next);
            if let (Phase::Serves, Phase::Idle(code)) = (before, next) {
                // Nobody listens any more: the lab is ending.
                let _ = tell.send(RuntimeEvent::State(node.clone(), NodeState::Exited(Some(code)))).await;
            }
        }
    }
    phase.send_replace(Phase::Gone);
}

/// Takes the lines up to the first that tells what goes on now.
fn next_phase(said: &mut String) -> Option<Phase> {
    while let Some(end) = said.find('\n') {
        let line: String = said.drain(..=end).collect();
        match line.trim() {
            FREE => return Some(Phase::Free),
            line => {
                if let Some(code) = line.strip_prefix(ENDED).and_then(|code| code.parse().ok()) {
                    return Some(Phase::Idle(code));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_heard_in_whole_lines() {
        let mut said = "x\nended 1".to_owned();
        assert_eq!(next_phase(&mut said), None);
        said.push_str("37\nended 0\nfree\nended");
        let heard = [(); 4].map(|()| next_phase(&mut said));
        assert_eq!(heard, [Some(Phase::Idle(137)), Some(Phase::Idle(0)), Some(Phase::Free), None]);
        assert_eq!(said, "ended");
    }
}
