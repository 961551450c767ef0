//! A lab brought up as the program does it, without a screen and without a model.

use std::sync::Arc;
use std::time::Instant;

use replab::drive::{self, Lab};
use replab::model::msg::{Act, Msg, OpId, Topology};
use replab::pg::TemplateKey;
use replab::runtime::{Runtime, owner};
use tokio::sync::mpsc;

use super::{Oops, Run, ms};

const INBOX: usize = 4_096;

/// How long a bring-up took, in milliseconds from the wish.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Until the last standby streamed.
    pub streaming: f64,
    /// Until the act's end: each node was looked at once by then.
    pub whole: f64,
}

/// Brings a lab up as the program does.
pub async fn drive<R: Runtime>(runtime: R, key: &TemplateKey, topology: &Topology) -> Run<(Took, Arc<Lab<R>>)> {
    let (out, mut inbox) = mpsc::channel(INBOX);
    let lab = Arc::new(Lab::new(runtime, owner::new_lab_id(), key.clone(), out)?);
    let began = Instant::now();
    let ending = tokio::spawn(async move {
        let (mut ended, mut streaming) = (None, 0.0);
        while let Some(msg) = inbox.recv().await {
            match msg {
                // A node has no phase any more once all that it must wait for is there: a standby, once it streams.
                Msg::Phase(Some(_), text) if text.is_empty() => streaming = ms(began),
                Msg::Done(_, outcome) => {
                    ended = Some(outcome.result);
                    break;
                }
                _ => {}
            }
        }
        (ended, streaming, inbox)
    });
    replab::observe::follow(&lab);
    drive::run(Arc::clone(&lab), OpId(1), Act::BringUp(topology.clone())).await;
    let whole = ms(began);
    let (ended, streaming, mut inbox) = ending.await?;
    // Samplers go on telling until the lab ends.
    tokio::spawn(async move { while inbox.recv().await.is_some() {} });
    ended.ok_or("bring-up told no end")?.map_err(|why| Oops::from(format!("bring-up failed: {why}")))?;
    Ok((Took { streaming, whole }, lab))
}
