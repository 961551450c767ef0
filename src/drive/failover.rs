//! The primary's part goes to another node: fencing and asking, taking over, switching over. Carries out what the model decided,
//! in the order that loses nothing and no time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Done, Failure, Lab, Steps, bring_up, faults, links, rejoin, replication};
use crate::model::election::Answer;
use crate::model::msg::{Happened, Msg, OpId, Reached, Taken};
use crate::model::sync_rule::SyncRule;
use crate::model::{Lsn, NodeName};
use crate::observe::probe;
use crate::pg::conf;
use crate::pg::control::Control;
use crate::pg::sql;
use crate::runtime::Runtime;

/// A standby that doesn't say how far it is within this has not answered.
const ANSWER_LIMIT: Duration = Duration::from_millis(300);
/// What the old primary had sent is waited for: until the stream ends, but no longer than this where it stands still (a cut link
/// never ends), and
const STILL_LIMIT: Duration = Duration::from_millis(60);
/// no longer than this in any case.
const STREAM_END_LIMIT: Duration = Duration::from_secs(1);
/// A standby is asked again this often how far it is.
const ASK_EVERY: Duration = Duration::from_millis(1);
/// A promotion that went wrong half-way has come to its end within this, as a rule.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);
/// A standby that was told to follow does so within this, or is told to be missing.
const FOLLOW_LIMIT: Duration = Duration::from_secs(5);
/// After the old primary has stopped its standby has everything in moments.
const LEVEL_LIMIT: Duration = Duration::from_secs(10);

/// Keeps a probe on every node of the lab, whoever comes and goes, until told to stop.
pub async fn probe_all<R: Runtime>(lab: Arc<Lab<R>>, every: Duration, stop: CancellationToken) {
    let mut probes: BTreeMap<NodeName, CancellationToken> = BTreeMap::new();
    loop {
        let names: Vec<NodeName> = lab.nodes().keys().cloned().collect();
        probes.retain(|name, token| {
            names.contains(name) || {
                token.cancel();
                false
            }
        });
        for name in names {
            probes.entry(name.clone()).or_insert_with(|| {
                let token = stop.child_token();
                let (eyes, node) = (Arc::clone(&lab), name.clone());
                let address = move || {
                    let (lab, node) = (Arc::clone(&eyes), node.clone());
                    async move { lab.client_address(&node).await.ok() }
                };
                let key = lab.passwords.control.clone();
                tokio::spawn(probe::probe(name, every, key, address, lab.out.clone(), token.clone()));
                token
            });
        }
        tokio::select! {
            () = sleep(every) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Fences the old primary, if that is wanted, and asks the standbys how far they are: once what it had sent is in, or, where only
/// who answers `counts`, at once.
pub async fn canvass<R: Runtime>(
    lab: &Arc<Lab<R>>,
    standbys: &[NodeName],
    fence: Option<&NodeName>,
    counts: bool,
    steps: &mut Steps,
) -> Done {
    if let Some(old) = fence {
        steps.node(old, "kill", "kill -9 of the postmaster and all its children (fenced)");
        lab.runtime
            .kill(old)
            .await
            .map_err(|why| Failure(format!("{old} could not be fenced, so nobody is promoted: {why}")))?;
    }
    let answers = if counts { who_answers(lab, standbys).await } else { all_is_in(lab, standbys).await };
    for answer in &answers {
        let Answer { node, timeline, wal } = answer;
        steps.note(format!("{node}: received or replayed up to {wal} on timeline {timeline}, by its own word"));
    }
    Ok(Happened::Canvassed(answers))
}

async fn who_answers<R: Runtime>(lab: &Arc<Lab<R>>, standbys: &[NodeName]) -> Vec<Answer> {
    let asked = join_all(standbys.iter().map(|node| ask(lab, node))).await;
    asked.into_iter().flatten().map(|(answer, _)| answer).collect()
}

/// Asks until everything that the old primary had sent is in: its streams have ended, or stand still.
async fn all_is_in<R: Runtime>(lab: &Arc<Lab<R>>, standbys: &[NodeName]) -> Vec<Answer> {
    let began = Instant::now();
    let (mut last, mut moved, mut ended) = (Vec::<Answer>::new(), began, false);
    loop {
        // A look reads the place first and the stream after it: what came in between shows in a second look only. Who was silent
        // in the first isn't waited for again.
        let whom = standbys.iter().filter(|node| !ended || last.iter().any(|answer| answer.node == **node));
        let asked = join_all(whom.map(|node| ask(lab, node))).await;
        let seen: Vec<(Answer, bool)> = asked.into_iter().flatten().collect();
        let answers: Vec<Answer> = seen.iter().map(|(answer, _)| answer.clone()).collect();
        let flows = seen.iter().any(|(_, streams)| *streams);
        let sure = !flows && ended && answers == last;
        ended = !flows;
        if answers != last {
            (last, moved) = (answers, Instant::now());
        }
        let still = flows && moved.elapsed() >= STILL_LIMIT && began.elapsed() >= STILL_LIMIT;
        if sure || still || last.is_empty() || began.elapsed() >= STREAM_END_LIMIT {
            return last;
        }
        if flows {
            sleep(ASK_EVERY * 2).await;
        }
    }
}

/// How far a standby is, and whether it still hears somebody who isn't itself a standby of the lab.
async fn ask<R: Runtime>(lab: &Lab<R>, node: &NodeName) -> Option<(Answer, bool)> {
    let control = lab.control(node).ok()?;
    let sample = timeout(ANSWER_LIMIT, control.sample()).await.ok()?.ok()?;
    let upstream = lab.nodes().get(node).and_then(|h| h.upstream.clone());
    let cascaded = upstream.is_some_and(|u| lab.nodes().get(&u).is_some_and(|h| h.upstream.is_some()));
    let streams = !cascaded && sample.receiver.as_ref().is_some_and(|r| r.status == "streaming");
    Some((Answer { node: node.clone(), timeline: sample.timeline, wal: sample.wal }, streams))
}

/// What an operation needs that tells how far it is.
pub struct Telling<'a, R: Runtime> {
    pub lab: &'a Arc<Lab<R>>,
    pub id: OpId,
}

impl<R: Runtime> Telling<'_, R> {
    /// So far it is now.
    pub(super) async fn reached(&self, reached: Reached) {
        self.lab.tell(Msg::Reached(self.id, reached)).await;
    }

    /// Nobody of those who were told has followed: then there is no such moment.
    async fn followed(&self, followed: &[NodeName], missed: &[(NodeName, String)]) {
        if missed.is_empty() || !followed.is_empty() {
            self.reached(Reached::Followed).await;
        }
    }

    /// Promotes, and tells so as soon as writes are accepted. The rule is there before the first of them: promoted without it, a
    /// server acknowledges what nobody else has.
    async fn promote(
        &self,
        node: &NodeName,
        rule: Option<&SyncRule>,
        followers: &[NodeName],
        steps: &mut Steps,
    ) -> Result<Control, Failure> {
        let control = self.lab.control(node)?;
        let slots: Vec<&str> = followers.iter().map(NodeName::as_str).collect();
        if let Some(rule) = rule {
            steps.setting(node, replication::RULE, Some(&rule.setting()));
            control.alter_system(replication::RULE, Some(&rule.setting())).await?;
        }
        steps.sql(node, sql::PROMOTE);
        if !slots.is_empty() {
            steps.sql(node, sql::create_slots(&slots));
        }
        // On one connection, one after the other: the slots are made while the server leaves recovery.
        let (started, made) = tokio::join!(control.promote(), control.create_slots(&slots));
        started?;
        made?;
        replication::until_promoted(&control, node, steps).await?;
        self.open(node).await;
        Ok(control)
    }

    /// It accepts writes, and follows nobody any more.
    async fn open(&self, node: &NodeName) {
        self.reached(Reached::Open(node.clone())).await;
        let old = self.lab.nodes().get_mut(node).and_then(|h| h.upstream.take());
        if let Some(old) = old {
            links::drop_link(self.lab, node, &old);
        }
    }

    /// The promotion after `old` was stopped has failed: where the other one is a primary for all that, that is told; where it
    /// isn't the old one is it again.
    async fn half_way(&self, old: &NodeName, node: &NodeName, failure: Failure, steps: &mut Steps) -> Failure {
        if !self.left_recovery(node).await {
            return back_to(self.lab, old, failure, steps).await;
        }
        self.open(node).await;
        let Failure(why) = failure;
        Failure(format!(
            "{why}; {node} is the primary all the same: `follow all {node}` and `rejoin {old}` bring the others back"
        ))
    }

    /// Whether a server whose promotion went wrong left recovery; it may still be at it.
    async fn left_recovery(&self, node: &NodeName) -> bool {
        let Ok(control) = self.lab.control(node) else { return false };
        let end = Instant::now() + SETTLE_LIMIT;
        loop {
            match control.is_in_recovery().await {
                Ok(false) => return true,
                _ if Instant::now() >= end => return false,
                _ => sleep(bring_up::ASK_EVERY).await,
            }
        }
    }
}

/// A switchover came to nothing: the old primary is started again.
async fn back_to<R: Runtime>(lab: &Arc<Lab<R>>, old: &NodeName, failure: Failure, steps: &mut Steps) -> Failure {
    let Failure(why) = failure;
    match faults::start(lab, old, steps).await {
        Ok(_) => Failure(format!("{why}; {old} is started again and stays the primary")),
        Err(Failure(also)) => Failure(format!("{why}; {old} was stopped for it and doesn't come up again: {also}")),
    }
}

/// The elected one takes over; the others follow it.
pub async fn take_over<R: Runtime>(
    telling: &Telling<'_, R>,
    node: &NodeName,
    rule: Option<&SyncRule>,
    followers: &[NodeName],
    steps: &mut Steps,
) -> Done {
    let lab = telling.lab;
    // Where each finds the new primary is laid out before, so that nothing but the promotion is waited for.
    let roads = join_all(followers.iter().map(|f| links::link(lab, f, node)));
    let (roads, control) = tokio::join!(roads, telling.promote(node, rule, followers, steps));
    let control = control?;
    let told =
        join_all(followers.iter().zip(roads).map(|(f, road)| async { (f.clone(), repoint(lab, f, node, road).await) }));
    let told = told.await;
    let (followed, missed) = sort_out(told, steps);
    telling.followed(&followed, &missed).await;
    taken(lab, node, &control, followed, missed).await
}

async fn taken<R: Runtime>(
    lab: &Arc<Lab<R>>,
    node: &NodeName,
    control: &Control,
    followed: Vec<NodeName>,
    missed: Vec<(NodeName, String)>,
) -> Done {
    let sample = control.sample().await?;
    let fork = control.fork_point(sample.timeline).await.ok().flatten();
    lab.look(node).await;
    let names = sample.settings.synchronous_standby_names;
    Ok(Happened::HandedOver(Taken { timeline: sample.timeline, fork, names, missed, followed }))
}

/// A standby, and the `primary_conninfo` that it was told by SQL (None: in its files), or why not.
type Told = (NodeName, Result<Option<String>, Failure>);

fn sort_out(told: Vec<Told>, steps: &mut Steps) -> (Vec<NodeName>, Vec<(NodeName, String)>) {
    let (mut followed, mut missed) = (Vec::new(), Vec::new());
    for (follower, done) in told {
        match done {
            Ok(conninfo) => {
                if conninfo.is_some() {
                    steps.setting(&follower, replication::UPSTREAM, conninfo.as_deref());
                }
                followed.push(follower);
            }
            Err(Failure(why)) => missed.push((follower, why)),
        }
    }
    (followed, missed)
}

/// Tells a standby where to stream from, and waits until it does; what it was told.
async fn repoint<R: Runtime>(
    lab: &Arc<Lab<R>>,
    standby: &NodeName,
    upstream: &NodeName,
    road: Result<conf::Upstream, Failure>,
) -> Result<Option<String>, Failure> {
    let conninfo = replication::point(lab, standby, &road?).await?;
    let old = lab.nodes().get_mut(standby).and_then(|h| h.upstream.replace(upstream.clone()));
    if let Some(old) = old.filter(|o| o != upstream) {
        links::drop_link(lab, standby, &old);
    }
    until_followed(lab, standby, upstream, FOLLOW_LIMIT).await?;
    Ok(Some(conninfo))
}

/// Waits until `upstream` streams to `standby`.
pub(super) async fn until_followed<R: Runtime>(
    lab: &Arc<Lab<R>>,
    standby: &NodeName,
    upstream: &NodeName,
    limit: Duration,
) -> Result<(), Failure> {
    let control = lab.control(upstream)?;
    let end = Instant::now() + limit;
    let came = links::arrivals(lab, standby, upstream);
    loop {
        if control.streaming().await?.iter().any(|name| name == standby.as_str()) {
            return Ok(());
        }
        if Instant::now() >= end {
            let late = bring_up::late(standby.as_str(), upstream, limit);
            let why = links::kept_away(lab, standby, upstream, came);
            return Err(why.map_or(late, Failure));
        }
        sleep(bring_up::ASK_EVERY).await;
    }
}

/// `follow all`.
pub async fn follow_all<R: Runtime>(
    lab: &Arc<Lab<R>>,
    standbys: &[NodeName],
    upstream: &NodeName,
    steps: &mut Steps,
) -> Done {
    let mut missed = Vec::new();
    for standby in standbys {
        if let Err(Failure(why)) = replication::follow(lab, standby, upstream, steps).await {
            missed.push((standby.clone(), why));
        }
    }
    Ok(Happened::Followed { missed })
}

/// Hands over in peace: the old primary is shut down, the new one surely has all of it before it is promoted, and the old one comes
/// back as a standby, without a rewind.
pub async fn switch_over<R: Runtime>(
    telling: &Telling<'_, R>,
    old: &NodeName,
    node: &NodeName,
    (rule, followers): (Option<&SyncRule>, &[NodeName]),
    steps: &mut Steps,
) -> Done {
    let lab = telling.lab;
    faults::stop(lab, old, steps).await?;
    telling.reached(Reached::Stopped).await;
    if let Err(failure) = level(lab, old, node, steps).await {
        return Err(back_to(lab, old, failure, steps).await);
    }
    telling.reached(Reached::Chosen(node.clone())).await;
    let all: Vec<NodeName> = followers.iter().chain([old]).cloned().collect();
    let roads = join_all(followers.iter().map(|f| links::link(lab, f, node)));
    let (roads, control) = tokio::join!(roads, telling.promote(node, rule, &all, steps));
    let control = match control {
        Ok(control) => control,
        Err(failure) => return Err(telling.half_way(old, node, failure, steps).await),
    };
    let told =
        join_all(followers.iter().zip(roads).map(|(f, road)| async { (f.clone(), repoint(lab, f, node, road).await) }));
    let (mut told, back) = tokio::join!(told, rejoin::follow_straight(lab, old, node));
    told.push((old.clone(), back.map(|()| None)));
    steps.note(format!("{old}: standby.signal, primary_conninfo to {node}; started"));
    let (followed, missed) = sort_out(told, steps);
    telling.followed(&followed, &missed).await;
    taken(lab, node, &control, followed, missed).await
}

/// Waits until the standby has replayed the stopped primary's last record, which its control file names.
async fn level<R: Runtime>(
    lab: &Arc<Lab<R>>,
    old: &NodeName,
    node: &NodeName,
    steps: &mut Steps,
) -> Result<(), Failure> {
    let end = shutdown_record(lab, old).await?;
    steps.note(format!("{old}: pg_controldata: its last record, the shutdown checkpoint, is at {end}"));
    let control = lab.control(node)?;
    let limit = Instant::now() + LEVEL_LIMIT;
    loop {
        let sample = control.sample().await?;
        if sample.replayed.is_some_and(|at| at > end) {
            steps.note(format!("{node}: replayed up to {}, by its own word", sample.replayed.unwrap_or_default()));
            return Ok(());
        }
        if Instant::now() >= limit {
            let has = sample.replayed.unwrap_or_default();
            return Err(Failure(format!("{node} has replayed up to {has} only; {old}'s last record is at {end}")));
        }
        sleep(ASK_EVERY * 2).await;
    }
}

async fn shutdown_record<R: Runtime>(lab: &Arc<Lab<R>>, old: &NodeName) -> Result<Lsn, Failure> {
    let told = lab.runtime.run(old, &conf::control_data_job()).await?;
    match conf::read_control_data(&told.output) {
        Some((true, at)) => Ok(at),
        Some((false, _)) => Err(Failure(format!("{old} was not shut down cleanly"))),
        None => Err(Failure(format!("{old}'s control file can't be read"))),
    }
}
