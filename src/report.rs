//! What a run says of itself, as files. Pure: a model in, a text out. The JSON form is documented in
//! docs/report-format.md, versioned, and only ever added to; the other forms ([`Form`]) are for CI and for people.

pub mod chaos;
mod chart;
mod form;
mod html;
mod junit;
mod markdown;
pub(crate) mod markup;
mod moves;
mod sheet;

pub use form::{ENDINGS, Form, file};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::model::fault_log::FaultSpan;
use crate::model::ledger::Ids;
use crate::model::verdict::Verification;

/// Version of the JSON report; grows when a field changes its meaning or goes, which it shouldn't.
pub const VERSION: u32 = 1;

/// The JSON report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form.
    pub report_version: u32,
    /// The program that wrote it.
    pub replab: String,
    /// The lesson, if one was played.
    pub scenario: Option<String>,
    /// "sound", "unknown" or "broken".
    pub verdict: String,
    /// The sentences that explain the verdict.
    pub findings: Vec<String>,
    /// Counts of writes.
    pub writes: Writes,
    /// Counts of expectations.
    pub expectations: Expectations,
    /// From the first request to all standbys streaming, in milliseconds; none when it failed.
    pub bring_up_ms: Option<u64>,
    /// The server's version.
    pub postgres: String,
    /// "docker" or "process".
    pub runtime: String,
    /// What each step gave.
    pub steps: Vec<StepReport>,
    /// Ids of acknowledged writes as ranges, per client: {"1": [[1, 500]]}.
    pub acked_ids: BTreeMap<u32, Vec<(u64, u64)>>,
    /// Ids of acknowledged writes that the primary lacked at the last reading, as `acked_ids`.
    #[serde(default)]
    pub lost_ids: BTreeMap<u32, Vec<(u64, u64)>>,
    /// Those of them that another node was read to hold.
    #[serde(default)]
    pub stranded_ids: BTreeMap<u32, Vec<(u64, u64)>>,
    /// Ids of the writes without an answer.
    #[serde(default)]
    pub unknown_ids: BTreeMap<u32, Vec<(u64, u64)>>,
    /// What the last reading says of losses, in words.
    #[serde(default)]
    pub losses: String,
    /// Every fault there was, in the order in which they began.
    #[serde(default)]
    pub faults: Vec<FaultReport>,
    /// The cluster's timelines, oldest first.
    #[serde(default)]
    pub timelines: Vec<TimelineReport>,
    /// Failovers and switchovers, oldest first.
    #[serde(default)]
    pub handovers: Vec<HandoverReport>,
    /// Nodes that came back as standbys, oldest first.
    #[serde(default)]
    pub rejoins: Vec<RejoinReport>,
    /// When the last reading was judged, in milliseconds since the lab was opened.
    #[serde(default)]
    pub read_at_ms: Option<u64>,
    /// What each node had and lacked at the last reading.
    #[serde(default)]
    pub nodes: Vec<NodeReport>,
    /// Where two primaries ran at the last reading: what each has to itself.
    #[serde(default)]
    pub sides: Vec<SideReport>,
    /// What chaos did, where it was let loose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chaos: Option<chaos::ChaosReport>,
    /// Why the lab did not start or the run broke off, if so.
    pub error: Option<String>,
}

/// A fault while it lasted, in milliseconds since the lab was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    /// cut, refused, slow, throttled, isolated, frozen, down, replay-paused, replay-stopped, second-primary.
    pub kind: String,
    /// In words, with the nodes' names.
    pub what: String,
    /// When it began, as the lab saw it.
    pub from_ms: u64,
    /// When it was over; null when it never was.
    pub to_ms: Option<u64>,
}

/// One timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelineReport {
    /// Its number.
    pub id: u32,
    /// The one it forked off.
    pub parent: Option<u32>,
    /// Who began that one: two timelines may have one number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_node: Option<String>,
    /// Where, as PostgreSQL prints it.
    pub fork: Option<String>,
    /// The node promoted.
    pub node: String,
    /// Milliseconds since the lab began.
    pub at_ms: u64,
}

/// One failover or switchover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandoverReport {
    /// "failover" or "switchover".
    pub kind: String,
    /// Why.
    pub cause: String,
    /// From whom.
    pub old: Option<String>,
    /// To whom; none where it came to nothing.
    pub new: Option<String>,
    /// "fault" or "last good probe" for a failover, "order" for a switchover.
    pub from: String,
    /// Its parts, in milliseconds.
    #[serde(flatten)]
    pub split: crate::model::handover::Split,
    /// Why it came to nothing.
    pub failed: Option<String>,
}

/// One return.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RejoinReport {
    /// The node.
    pub node: String,
    /// Milliseconds since the lab began.
    pub at_ms: u64,
    /// "straight", "rewound" or "rebuilt".
    pub road: String,
    /// Why a shorter way came to nothing, if one was tried.
    #[serde(default)]
    pub detour: Option<String>,
    /// Where its history had parted, and how far it went.
    pub fork: Option<String>,
    /// See `fork`.
    pub end: Option<String>,
    /// Rows of the writer that only it had, thrown away; none where they could not be counted.
    pub thrown_away: Option<BTreeMap<u32, Vec<(u64, u64)>>>,
}

/// What a node had and lacked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node.
    pub node: String,
    /// Rows of the writer that are there, however their commits were answered.
    pub rows: u64,
    /// Acknowledged writes that are there.
    pub present: u64,
    /// Acknowledged writes that are not.
    pub missing: u64,
    /// Why it could not be read; the figures are 0 then.
    pub unreadable: Option<String>,
}

/// One side of a split brain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideReport {
    /// The primary.
    pub node: String,
    /// Rows of the writer that only it has.
    pub only: BTreeMap<u32, Vec<(u64, u64)>>,
    /// The acknowledged ones among them: lost if another side wins.
    pub lost_if_it_loses: u64,
}

/// Counts of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writes {
    /// Attempts.
    pub tried: u64,
    /// Acknowledged without reservation.
    pub acked: u64,
    /// Acknowledged with a warning.
    pub acked_with_warning: u64,
    /// Refused.
    pub failed: u64,
    /// Without an answer.
    pub unknown: u64,
    /// Acknowledged, and missing on the primary at the last reading.
    pub lost: u64,
    /// Those of the lost ones that another node still holds.
    pub stranded: u64,
}

/// Counts of expectations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectations {
    /// That held.
    pub passed: usize,
    /// That didn't.
    pub failed: usize,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its name.
    pub name: String,
    /// say, do, wait or expect.
    pub kind: String,
    /// Whether it went as the lesson says.
    pub ok: bool,
    /// How long it took.
    pub ms: u64,
    /// The evidence.
    pub detail: String,
}

impl Report {
    /// The report of a lab as it stands.
    pub fn of(model: &Model) -> Self {
        let counts = model.ledger.counts();
        let verified = model.verification.as_ref();
        let script = model.lesson();
        let (passed, failed) = script.map_or((0, 0), crate::model::script::Script::tally);
        Self {
            report_version: VERSION,
            replab: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: script.map(|s| s.name.clone()),
            verdict: verified.map_or("unknown", |v| v.verdict.word()).to_owned(),
            findings: verified.map_or_else(|| vec!["the nodes were not read".to_owned()], Verification::findings),
            writes: Writes {
                tried: counts.tried,
                acked: counts.acked,
                acked_with_warning: counts.acked_with_warning,
                failed: counts.failed,
                unknown: counts.unknown,
                lost: verified.map_or(0, |v| v.lost),
                stranded: verified.map_or(0, |v| v.stranded),
            },
            expectations: Expectations { passed, failed },
            bring_up_ms: model.bring_up_ms,
            postgres: model.postgres.clone(),
            runtime: model.runtime.clone(),
            steps: script.map(steps).unwrap_or_default(),
            acked_ids: ranges(&crate::model::ledger::or(&model.ledger.acked, &model.ledger.warned)),
            lost_ids: verified.map(|v| ranges(&v.lost_ids)).unwrap_or_default(),
            stranded_ids: verified.map(|v| ranges(&v.stranded_ids)).unwrap_or_default(),
            unknown_ids: ranges(&model.ledger.unknown),
            losses: verified.map(Verification::in_words).unwrap_or_default(),
            faults: model.fault_log.iter().map(FaultReport::from).collect(),
            timelines: moves::timelines(model),
            handovers: model.handovers.iter().map(moves::handover).collect(),
            rejoins: model.rejoins.iter().map(moves::rejoin).collect(),
            read_at_ms: verified.map(|v| v.at.0 / 1_000),
            nodes: verified.map(moves::nodes).unwrap_or_default(),
            sides: verified.map(moves::sides).unwrap_or_default(),
            chaos: None,
            error: model.broken_off().map(str::to_owned),
        }
    }

    /// As pretty JSON with a newline at the end.
    pub fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self).unwrap_or_else(|e| unreachable!("a report is plain data: {e}"));
        text + "\n"
    }

    /// The error as a sentence.
    pub fn broke_off(&self) -> Option<String> {
        let what = if self.bring_up_ms.is_some() { "the run broke off" } else { "the lab did not start" };
        self.error.as_ref().map(|why| format!("{what}: {why}"))
    }

    /// Whether a lesson went as it should: nothing failed, no promise broken.
    pub fn good(&self) -> bool {
        self.error.is_none() && self.steps.iter().all(|s| s.ok) && self.verdict != "broken"
    }
}

impl From<&FaultSpan> for FaultReport {
    fn from(span: &FaultSpan) -> Self {
        Self {
            kind: span.kind.clone(),
            what: span.what.clone(),
            from_ms: span.from.0 / 1_000,
            to_ms: span.to.map(|at| at.0 / 1_000),
        }
    }
}

fn steps(script: &crate::model::script::Script) -> Vec<StepReport> {
    let paired = script.steps.iter().zip(&script.results);
    paired
        .map(|(step, result)| StepReport {
            name: step.name.clone(),
            kind: step.word().to_owned(),
            ok: result.ok,
            ms: result.ms,
            detail: result.detail.clone(),
        })
        .collect()
}

/// Ids per client, as ranges.
pub(crate) fn ranges(ids: &Ids) -> BTreeMap<u32, Vec<(u64, u64)>> {
    ids.iter().map(|(client, set)| (*client, set.as_slice().to_vec())).collect()
}
