//! The failure detector's eyes: one probe a node, each on a connection of its own, apart from the lab's samplers. They look from
//! where clients are: `address` says which way that is. What is seen becomes messages; knows nothing of what it means.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::model::NodeName;
use crate::model::detector::Probe;
use crate::model::msg::Msg;
use crate::pg::Secret;
use crate::pg::probe::{NoLine, ProbeLine};

/// A log-in that hangs is given up and tried anew.
const LOG_IN_LIMIT: Duration = Duration::from_secs(1);
/// A question without an answer for this long: the connection may be one that will never answer again.
const HANGS: Duration = Duration::from_secs(5);
/// After a broken connection the next one is tried this soon: a dead server is then known at once.
const AGAIN: Duration = Duration::from_millis(2);
/// A port that takes connections and closes them without a word, so many times: no server is behind it.
const WORDLESS: u32 = 3;

/// Probes a node until told to stop. `address` is asked before each connection.
pub async fn probe<F: Future<Output = Option<SocketAddr>>>(
    node: NodeName,
    every: Duration,
    key: Secret,
    address: impl Fn() -> F,
    out: mpsc::Sender<Msg>,
    stop: CancellationToken,
) {
    let work = async {
        let mut wordless = 0;
        loop {
            let Some(address) = address().await else {
                sleep(every).await;
                continue;
            };
            let line = match timeout(LOG_IN_LIMIT, ProbeLine::connect(address, &key)).await {
                Ok(Ok(line)) => Ok(line),
                Ok(Err(why)) => Err(why),
                Err(_) => Err(NoLine::NotNow("no answer to the log-in".to_owned())),
            };
            wordless = if line.as_ref().is_err_and(|why| *why == NoLine::Closed) { wordless + 1 } else { 0 };
            match line {
                Ok(line) => {
                    follow(line, &node, every, &out).await;
                    sleep(AGAIN).await;
                }
                Err(NoLine::Closed) if wordless < WORDLESS => sleep(AGAIN).await,
                Err(NoLine::Closed) => refused(&node, "closed without a word", every, &out).await,
                Err(NoLine::Refused(why)) => refused(&node, &why, every, &out).await,
                Err(NoLine::NotNow(why)) => {
                    tracing::debug!(%node, why, "no probe");
                    sleep(every).await;
                }
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

async fn refused(node: &NodeName, why: &str, every: Duration, out: &mpsc::Sender<Msg>) {
    tell(out, node, Probe::Refused(why.to_owned())).await;
    sleep(every).await;
}

/// Asks on one connection until that ends or hangs.
async fn follow(mut line: ProbeLine, node: &NodeName, every: Duration, out: &mpsc::Sender<Msg>) {
    while !line.has_ended() {
        match timeout(HANGS, line.ask()).await {
            Ok(Ok(Some(seen))) => tell(out, node, seen).await,
            Ok(Ok(None)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
        tokio::select! {
            () = sleep(every) => {}
            () = line.ended() => return,
        }
    }
}

async fn tell(out: &mpsc::Sender<Msg>, node: &NodeName, probe: Probe) {
    // Nobody listens any more: the lab is going, and so is this.
    drop(out.send(Msg::Probed(node.clone(), probe)).await);
}
