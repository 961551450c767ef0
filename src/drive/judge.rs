//! Reading: the rows of every node for the verdict.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{Done, Failure, Lab, Steps};
use crate::model::NodeName;
use crate::model::ledger::Ids;
use crate::model::msg::Happened;
use crate::model::verdict::{NodeReading, Reading};
use crate::runtime::Runtime;

pub async fn verify<R: Runtime>(lab: &Arc<Lab<R>>, nodes: &[NodeName], steps: &mut Steps) -> Done {
    steps.note("every node: the rows of replab.writes as unbroken runs; its system_identifier and the marker row");
    let read = join_all(nodes.iter().map(|node| async {
        let reading = rows(lab, node).await.unwrap_or_else(|Failure(why)| NodeReading::Unreadable(why));
        (node.clone(), reading)
    }));
    Ok(Happened::Verified(Reading { nodes: read.await.into_iter().collect() }))
}

pub(super) async fn rows<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName) -> Result<NodeReading, Failure> {
    let control = lab.control(node)?;
    // Who it is comes first, from the same server that is then read: its address can't change in between unnoticed,
    // because a new connection asks for it again.
    let sample = control.sample_anew().await?;
    let mut present = Ids::new();
    for (client, first, last) in control.read_ledger(0..=u32::MAX).await? {
        present.entry(client).or_default().insert(first, last);
    }
    Ok(NodeReading::Rows { present, system_identifier: sample.system_identifier, marker: sample.lab_marker })
}
