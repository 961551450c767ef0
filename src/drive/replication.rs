//! How the cluster replicates is changed: the rule, settings, promotion, who follows whom, replay.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::bring_up::drop_slot;
use super::{Done, Failure, Lab, Steps, faults, links};
use crate::model::NodeName;
use crate::model::cluster::{Role, Sample};
use crate::model::msg::Happened;
use crate::model::sync_rule::SyncRule;
use crate::pg::conf::{self, PASSFILE, Setting, Upstream};
use crate::pg::control::Control;
use crate::pg::sql;
use crate::runtime::{Place, Runtime};

/// The setting that holds the synchronous rule.
pub(super) const RULE: &str = "synchronous_standby_names";
/// The setting that says where a standby streams from.
pub(super) const UPSTREAM: &str = "primary_conninfo";
/// Promotion of a lab's small server takes some 20 ms; a checkpoint may be in the way.
const PROMOTE_LIMIT: Duration = Duration::from_secs(30);
/// Nothing tells when a server has left recovery: it is asked this often.
const PROMOTED_EVERY: Duration = Duration::from_millis(1);
/// A promotion that takes longer may be one that sleeps.
const WAKE_EVERY: Duration = Duration::from_millis(20);
/// A setting is in force when the server has acted on the reload.
const RELOAD_LIMIT: Duration = Duration::from_secs(2);
/// Nothing tells when a server has read its files: it is asked this often.
const ASK_EVERY: Duration = Duration::from_millis(4);

/// `nudge`: a local write that makes standbys reply, without which commits that wait under the old rule are looked at again
/// only at the next reply (facts, "Lag and detection"). It is part of the heartbeat, and goes when that is off.
pub async fn apply_rule<R: Runtime>(
    lab: &Arc<Lab<R>>,
    node: &NodeName,
    rule: &SyncRule,
    nudge: bool,
    steps: &mut Steps,
) -> Done {
    let control = lab.control(node)?;
    let names = rule.setting();
    steps.setting(node, RULE, Some(&names));
    if nudge {
        steps.sql(node, sql::NUDGE);
        steps.note("(the nudge makes standbys reply, so that waiting commits are looked at again)");
        control.set_rule(&names).await?;
    } else {
        control.alter_system(RULE, Some(&names)).await?;
    }
    let sample = until(&control, RELOAD_LIMIT, |s| s.settings.synchronous_standby_names == names).await?;
    lab.look(node).await;
    Ok(Happened::Rule { names: sample.settings.synchronous_standby_names })
}

/// Waits until a server has left recovery, once it is told to. Its startup process may sleep: a promotion that comes in the moment when it has
/// asked for a WAL receiver and none runs yet is noticed, and then wal_retrieve_retry_interval is waited out all the same (500 ms here;
/// docs/facts.md). A reload wakes it.
pub(super) async fn until_promoted(control: &Control, node: &NodeName, steps: &mut Steps) -> Result<(), Failure> {
    let began = Instant::now();
    // Later and later: each reload is a line in the log, and a promotion that has much to replay takes its time.
    let mut every = WAKE_EVERY;
    let mut wake = began + every;
    while control.is_in_recovery().await? {
        if began.elapsed() >= PROMOTE_LIMIT {
            let limit = PROMOTE_LIMIT.as_secs();
            return Err(Failure(format!("{node} is not promoted after {limit} s; see its log")));
        }
        if Instant::now() >= wake {
            if every == WAKE_EVERY {
                steps.sql(node, sql::RELOAD);
                steps.note("(the reload wakes the startup process, which may wait for wal_retrieve_retry_interval)");
            }
            control.reload().await?;
            every *= 2;
            wake = Instant::now() + every;
        }
        tokio::time::sleep(PROMOTED_EVERY).await;
    }
    Ok(())
}

/// Samples until `good`, or fails when the time is up.
async fn until(control: &Control, limit: Duration, good: impl Fn(&Sample) -> bool) -> Result<Sample, Failure> {
    let end = Instant::now() + limit;
    loop {
        let looked = control.sample().await;
        match looked {
            Ok(sample) if good(&sample) => return Ok(sample),
            Ok(_) if Instant::now() >= end => {
                return Err(Failure(format!("not so after {} s; see the node's log", limit.as_secs())));
            }
            Err(error) if Instant::now() >= end => return Err(error.into()),
            _ => tokio::time::sleep(ASK_EVERY).await,
        }
    }
}

pub async fn set<R: Runtime>(
    lab: &Arc<Lab<R>>,
    nodes: &[NodeName],
    name: &str,
    value: &str,
    steps: &mut Steps,
) -> Done {
    let (mut missed, mut reached) = (Vec::new(), Vec::new());
    for node in nodes {
        // Written all the same it would do nothing now, and perhaps keep the server from starting next time.
        if lab.control(node)?.needs_restart(name).await.unwrap_or(false) {
            return Err(Failure(format!(
                "{name} takes effect only when a server starts; `set` changes what a reload can"
            )));
        }
        let value = (!value.eq_ignore_ascii_case("default")).then_some(value);
        steps.setting(node, name, value);
        match lab.control(node)?.alter_system(name, value).await {
            Ok(()) => reached.push(node.as_str()),
            Err(why) => missed.push(format!("{node}: {why}")),
        }
    }
    lab.look_around().await;
    match (missed.is_empty(), reached.is_empty()) {
        (true, _) => Ok(Happened::Plain),
        (_, true) => Err(Failure(missed.join("; "))),
        _ => Err(Failure(format!("{}; it is in force on {}", missed.join("; "), reached.join(", ")))),
    }
}

pub async fn cancel_waiting<R: Runtime>(
    lab: &Arc<Lab<R>>,
    node: &NodeName,
    terminate: bool,
    steps: &mut Steps,
) -> Done {
    let control = lab.control(node)?;
    let count = if terminate {
        steps.sql(node, sql::terminate_waiting(None));
        control.terminate_waiting(None).await?
    } else {
        steps.sql(node, sql::cancel_waiting(None));
        control.cancel_waiting(None).await?
    };
    lab.look(node).await;
    Ok(Happened::Sessions(count))
}

pub async fn promote<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName, steps: &mut Steps) -> Done {
    let control = lab.control(node)?;
    let before = control.sample().await?;
    steps.sql(node, sql::PROMOTE);
    control.promote().await?;
    until_promoted(&control, node, steps).await?;
    let after = until(&control, PROMOTE_LIMIT, |s| s.role == Role::Primary && s.timeline != before.timeline).await?;
    let old = lab.nodes().get_mut(node).and_then(|h| h.upstream.take());
    if let Some(old) = old {
        links::drop_link(lab, node, &old);
    }
    lab.look(node).await;
    Ok(Happened::Promoted {
        timeline: after.timeline,
        fork: control.fork_point(after.timeline).await.ok().flatten(),
        names: after.settings.synchronous_standby_names,
    })
}

pub async fn follow<R: Runtime>(lab: &Arc<Lab<R>>, standby: &NodeName, upstream: &NodeName, steps: &mut Steps) -> Done {
    let source = lab.control(upstream)?;
    steps.sql(upstream, sql::create_slot(standby.as_str()));
    source.create_slot(standby.as_str()).await?;
    let from = links::link(lab, standby, upstream).await?;
    let conninfo = point(lab, standby, &from).await?;
    steps.setting(standby, UPSTREAM, Some(&conninfo));
    let old = lab.nodes().get_mut(standby).and_then(|h| h.upstream.replace(upstream.clone()));
    if let Some(old) = old.filter(|o| o != upstream) {
        forsake(lab, standby, &old, steps).await;
    }
    lab.look_around().await;
    Ok(Happened::Plain)
}

/// Tells a standby where to stream from, and gives what it was told. Its slot has its own name wherever it goes, and stands in its
/// files since it was made.
pub(super) async fn point<R: Runtime>(lab: &Lab<R>, standby: &NodeName, from: &Upstream) -> Result<String, Failure> {
    let passfile = lab.runtime.path(standby, &Place::Private(PASSFILE.to_owned()));
    let conninfo = conf::primary_conninfo(standby, from, &passfile);
    lab.control(standby)?.alter_system(UPSTREAM, Some(&conninfo)).await?;
    Ok(conninfo)
}

/// The old upstream keeps no WAL for one that left it. It may be down: then its slot goes when it comes back as a copy.
async fn forsake<R: Runtime>(lab: &Arc<Lab<R>>, standby: &NodeName, old: &NodeName, steps: &mut Steps) {
    links::drop_link(lab, standby, old);
    let Ok(control) = lab.control(old) else { return };
    steps.sql(old, sql::drop_slot(standby.as_str()));
    if let Err(Failure(why)) = drop_slot(&control, standby).await {
        steps.note(format!("{old} keeps the slot {standby}: {why}"));
    }
}

/// Raises settings that take effect at a start only, in the file where ALTER SYSTEM would write them: the server may be down because of them.
pub async fn raise<R: Runtime>(
    lab: &Arc<Lab<R>>,
    node: &NodeName,
    settings: &[(String, u64)],
    steps: &mut Steps,
) -> Done {
    if lab.runtime.is_up(node).await? {
        faults::stop(lab, node, steps).await?;
    }
    let found = lab.runtime.read(node, &Place::Data(conf::AUTO_CONF.to_owned())).await?;
    let text = found.ok_or_else(|| Failure(format!("there is no database in {node}")))?;
    let raised = settings.iter().map(|(name, value)| Setting::new(name, &value.to_string()));
    let raised = raised.collect::<Result<Vec<_>, _>>().map_err(|e| Failure(e.to_string()))?;
    for (name, value) in settings {
        steps.note(format!("{node}: {name} = {value} in {}", conf::AUTO_CONF));
    }
    lab.runtime.put(node, &[conf::raised_file(&text, &raised)]).await?;
    faults::start(lab, node, steps).await
}

pub async fn replay<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName, pause: bool, steps: &mut Steps) -> Done {
    let control = lab.control(node)?;
    steps.sql(node, if pause { sql::REPLAY_PAUSE } else { sql::REPLAY_RESUME });
    if pause {
        control.pause_replay().await?;
    } else {
        control.resume_replay().await?;
    }
    if pause {
        until(&control, RELOAD_LIMIT, |s| s.replay_paused).await?;
    }
    lab.look(node).await;
    Ok(Happened::Plain)
}
