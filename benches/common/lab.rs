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

/// Brings a lab up as the program does; milliseconds, and the lab.
pub async fn drive<R: Runtime>(runtime: R, key: &TemplateKey, topology: &Topology) -> Run<(f64, Arc<Lab<R>>)> {
    let (out, mut inbox) = mpsc::channel(INBOX);
    let lab = Arc::new(Lab::new(runtime, owner::new_lab_id(), key.clone(), out)?);
    let ending = tokio::spawn(async move {
        let mut ended = None;
        while let Some(msg) = inbox.recv().await {
            if let Msg::Done(_, outcome) = msg {
                ended = Some(outcome.result);
                break;
            }
        }
        (ended, inbox)
    });
    replab::observe::follow(&lab.runtime, lab.out.clone(), lab.end.child_token());
    let began = Instant::now();
    drive::run(Arc::clone(&lab), OpId(1), Act::BringUp(topology.clone())).await;
    let took = ms(began);
    let (ended, mut inbox) = ending.await?;
    // Samplers go on telling until the lab ends.
    tokio::spawn(async move { while inbox.recv().await.is_some() {} });
    ended.ok_or("bring-up told no end")?.map_err(|why| Oops::from(format!("bring-up failed: {why}")))?;
    Ok((took, lab))
}
