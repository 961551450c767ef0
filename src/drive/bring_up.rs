//! Nodes come and go: bring-up from the template, reset, a standby added by base backup, a fresh server, removal.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::{join_all, try_join, try_join_all};
use tokio::time::Instant;

use super::climb::Climb;
use super::{Done, Failure, Handle, Lab, Steps, failover, faults, links};
use crate::model::NodeName;
use crate::model::msg::{Happened, NodePlan, Topology};
use crate::observe;
use crate::pg::conf::{self, PASSFILE, Setting, Upstream};
use crate::pg::control::Control;
use crate::pg::secret::Secret;
use crate::pg::sql;
use crate::runtime::{Job, NodeFile, Origin, Place, Runtime};

/// A standby that isn't streaming after this long won't be.
pub(super) const STREAM_LIMIT: Duration = Duration::from_secs(30);
/// Nothing tells when a standby streams: its upstream is asked this often.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(5);
/// While starting, a standby that finds its upstream not ready tries again after this long (facts, "Speed").
const EAGER: &str = "20ms";

pub async fn bring_up<R: Runtime>(lab: &Arc<Lab<R>>, topology: &Topology, steps: &mut Steps) -> Done {
    let settings = topology.settings.iter().map(|(name, value)| Setting::new(name, value));
    let settings = settings.collect::<Result<Vec<_>, _>>().map_err(|e| Failure(e.to_string()))?;
    *lab.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    prepare(lab).await?;
    let began = Instant::now();
    let primary = topology.primary().ok_or_else(|| Failure("the topology has no primary".to_owned()))?;
    let climb = Climb::new(lab, topology)?;
    let standbys = climb.standbys.iter().map(|plan| climb.standby(plan));
    let (identifier, _) = try_join(climb.primary(primary), try_join_all(standbys)).await?;
    steps.node(primary, "run", "postgres on a copy of the template");
    for plan in &climb.standbys {
        steps.node(&plan.name, "run", "postgres on a copy of the template, with standby.signal and primary_conninfo");
    }
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    calm_down(lab, &climb.standbys);
    // What comes next may be asked of any node. One that answers isn't without a role then.
    lab.look_around().await;
    topology.nodes.iter().for_each(|plan| watch(lab, &plan.name));
    Ok(Happened::BroughtUp {
        ms,
        postgres: lab.runtime.postgres(),
        system_identifier: identifier,
        direct_links: links::direct(lab),
        no_freezer: lab.runtime.no_freezer(),
    })
}

/// Makes sure of the template, telling its phases.
async fn prepare<R: Runtime>(lab: &Arc<Lab<R>>) -> Result<(), Failure> {
    let (progress, mut phases) = tokio::sync::mpsc::unbounded_channel::<String>();
    let telling = {
        let lab = Arc::clone(lab);
        tokio::spawn(async move {
            while let Some(text) = phases.recv().await {
                lab.phase(None, &text).await;
            }
        })
    };
    let done = lab.runtime.prepare(&conf::template(&lab.key), &progress).await;
    drop(progress);
    telling.abort();
    Ok(done?)
}

/// Starts a node and returns its control connection, once it answers. Links towards it stay closed where they have never been
/// open: see [`links::dial`].
async fn start<R: Runtime>(
    lab: &Arc<Lab<R>>,
    node: &NodeName,
    upstream: Option<&NodeName>,
    keys: Vec<Secret>,
) -> Result<Control, Failure> {
    let control = launch(lab, node, upstream, keys).await?;
    faults::ready(lab, node, &control).await?;
    Ok(control)
}

/// The same without waiting for an answer.
pub(super) async fn launch<R: Runtime>(
    lab: &Arc<Lab<R>>,
    node: &NodeName,
    upstream: Option<&NodeName>,
    keys: Vec<Secret>,
) -> Result<Control, Failure> {
    lab.runtime.start(node).await?;
    let address = lab.runtime.control_address(node).await?;
    let control = Control::new(address, keys);
    let handle = Handle { control: control.clone(), watched: lab.end.child_token(), upstream: upstream.cloned() };
    if let Some(old) = lab.nodes().insert(node.clone(), handle) {
        old.watched.cancel();
    }
    Ok(control)
}

/// From now on a node that was started is watched.
pub(super) fn watch<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName) {
    if let Some(handle) = lab.nodes().get(node) {
        observe::watch(node.clone(), handle.control.clone(), lab.out.clone(), handle.watched.clone());
    }
}

pub(super) fn standby_files<R: Runtime>(
    lab: &Lab<R>,
    node: &NodeName,
    from: &Upstream,
    own: &[Setting],
) -> Result<Vec<NodeFile>, Failure> {
    let passfile = lab.runtime.path(node, &Place::Private(PASSFILE.to_owned()));
    let eager = Setting::new("wal_retrieve_retry_interval", EAGER).map_err(|e| Failure(e.to_string()))?;
    let own: Vec<Setting> = own.iter().cloned().chain([eager]).collect();
    Ok(conf::standby_files(node, from, &passfile, &lab.passwords, &lab.settings(), &own))
}

/// A standby doesn't get there.
pub(super) fn late(standby: &str, upstream: &NodeName, limit: Duration) -> Failure {
    Failure(format!("{standby} does not stream from {upstream} after {} s; its log says why", limit.as_secs()))
}

/// Bring-up is over: standbys stop trying every 20 ms. Nobody waits for that.
fn calm_down<R: Runtime>(lab: &Arc<Lab<R>>, standbys: &[&NodePlan]) {
    for plan in standbys {
        let Ok(control) = lab.control(&plan.name) else { continue };
        let name = plan.name.clone();
        tokio::spawn(async move {
            if let Err(why) = control.alter_system("wal_retrieve_retry_interval", None).await {
                tracing::warn!(%name, %why, "wal_retrieve_retry_interval stays short");
            }
        });
    }
}

pub async fn reset<R: Runtime>(lab: &Arc<Lab<R>>, topology: &Topology, steps: &mut Steps) -> Done {
    lab.stop_writers().await;
    super::close_sql(lab);
    let names: Vec<NodeName> = lab.nodes().keys().cloned().collect();
    for handle in std::mem::take(&mut *lab.nodes()).into_values() {
        handle.watched.cancel();
    }
    links::clear(lab).await;
    let gone = join_all(names.iter().map(|name| lab.runtime.destroy(name))).await;
    gone.into_iter().collect::<Result<Vec<()>, _>>()?;
    for name in &names {
        steps.node(name, "rm -f -v", "stopped and its folder removed");
    }
    let done = bring_up(lab, topology, steps).await;
    lab.start_writers()?;
    done
}

pub async fn add<R: Runtime>(lab: &Arc<Lab<R>>, name: &NodeName, upstream: &NodeName, steps: &mut Steps) -> Done {
    let source = lab.control(upstream)?;
    steps.sql(upstream, sql::create_slot(name.as_str()));
    source.create_slot(name.as_str()).await?;
    let made = make_standby(lab, name, upstream, steps).await;
    if made.is_err() {
        undo(lab, name, Some(upstream)).await;
    }
    made?;
    lab.look_around().await;
    Ok(Happened::Plain)
}

async fn make_standby<R: Runtime>(
    lab: &Arc<Lab<R>>,
    name: &NodeName,
    upstream: &NodeName,
    steps: &mut Steps,
) -> Result<(), Failure> {
    lab.phase(Some(name), "pg_basebackup").await;
    lab.runtime.create(name, Origin::Empty, &[conf::passfile(&lab.passwords.replication)]).await?;
    let from = links::link(lab, name, upstream).await?;
    let job = conf::base_backup_job(&from);
    steps.note(format!("{name}: {} {}", job.program, job.args.join(" ")));
    let came = links::arrivals(lab, name, upstream);
    run_job(lab, name, &job)
        .await
        .map_err(|failure| links::kept_away(lab, name, upstream, came).map_or(failure, Failure))?;
    steps.note(format!("{name}: standby.signal, primary_conninfo with application_name={name}"));
    let needed = lab.control(upstream)?.altered_limits().await?;
    lab.runtime.put(name, &standby_files(lab, name, &from, &needed)?).await?;
    lab.phase(Some(name), "starting").await;
    let control = start(lab, name, Some(upstream), lab.keys()).await?;
    watch(lab, name);
    links::dial(lab, name).await?;
    failover::until_followed(lab, name, upstream, STREAM_LIMIT).await?;
    control.alter_system("wal_retrieve_retry_interval", None).await?;
    Ok(())
}

pub(super) async fn run_job<R: Runtime>(lab: &Arc<Lab<R>>, name: &NodeName, job: &Job) -> Result<(), Failure> {
    let done = lab.runtime.run(name, job).await?;
    if done.code == Some(0) {
        return Ok(());
    }
    let last: Vec<&str> = done.output.lines().rev().take(3).collect();
    Err(Failure(format!("{}: {}", job.program, last.into_iter().rev().collect::<Vec<_>>().join(" "))))
}

pub async fn add_fresh<R: Runtime>(lab: &Arc<Lab<R>>, name: &NodeName, steps: &mut Steps) -> Done {
    let made = make_fresh(lab, name, steps).await;
    if made.is_err() {
        undo(lab, name, None).await;
    }
    made?;
    lab.look_around().await;
    Ok(Happened::Plain)
}

async fn make_fresh<R: Runtime>(lab: &Arc<Lab<R>>, name: &NodeName, steps: &mut Steps) -> Result<(), Failure> {
    lab.phase(Some(name), "initdb").await;
    lab.runtime.create(name, Origin::Empty, &[conf::superuser_file(&lab.passwords)]).await?;
    let job = conf::initdb_job(&lab.key);
    steps.note(format!("{name}: {} {}", job.program, job.args.join(" ")));
    run_job(lab, name, &job).await?;
    lab.runtime.put(name, &conf::fresh_files(name, &lab.passwords, &lab.settings(), &[])).await?;
    lab.phase(Some(name), "starting").await;
    start(lab, name, None, lab.keys()).await?;
    watch(lab, name);
    links::dial(lab, name).await?;
    Ok(())
}

async fn undo<R: Runtime>(lab: &Arc<Lab<R>>, name: &NodeName, upstream: Option<&NodeName>) {
    if let Err(Failure(why)) = take_away(lab, name, upstream).await {
        tracing::warn!(%name, %why, "what a failed add left could not be removed");
    }
}

pub async fn remove<R: Runtime>(
    lab: &Arc<Lab<R>>,
    node: &NodeName,
    upstream: Option<&NodeName>,
    steps: &mut Steps,
) -> Done {
    steps.node(node, "rm -f -v", "stopped and its folder removed");
    if let Some(up) = upstream {
        steps.sql(up, sql::drop_slot(node.as_str()));
    }
    take_away(lab, node, upstream).await?;
    lab.look_around().await;
    Ok(Happened::Plain)
}

async fn take_away<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName, upstream: Option<&NodeName>) -> Result<(), Failure> {
    if let Some(handle) = lab.nodes().remove(node) {
        handle.watched.cancel();
    }
    lab.runtime.destroy(node).await?;
    links::forget(lab, node);
    if let Some(control) = upstream.and_then(|u| lab.control(u).ok()) {
        drop_slot(&control, node).await?;
    }
    Ok(())
}

/// The walsender of a node that is gone lets go of the slot within moments (55006 until then).
pub(super) async fn drop_slot(control: &Control, node: &NodeName) -> Result<(), Failure> {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match control.drop_slot(node.as_str()).await {
            Err(error) if error.code() == Some("55006") && Instant::now() < end => tokio::time::sleep(ASK_EVERY).await,
            done => return Ok(done?),
        }
    }
}

/// Everything of the lab goes: used when it closes.
pub async fn close<R: Runtime>(lab: &Arc<Lab<R>>) -> Result<(), Failure> {
    lab.end.cancel();
    lab.stop_writers().await;
    lab.relays().clear();
    Ok(lab.runtime.destroy_all().await?)
}
