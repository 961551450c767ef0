//! What the relay costs: the time of a synchronous commit that waits for a standby behind a relay, against one that waits for a
//! standby linked directly to the same primary, in turning order. The lab is brought up as always, so both begin with a relay;
//! then one of them is repointed to the primary's own address.

mod common;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::lab::drive;
use common::{Bench, Goal, Oops, Run, docker, processes};
use replab::drive::Lab;
use replab::model::NodeName;
use replab::model::ledger::Ack;
use replab::model::msg::Topology;
use replab::pg::TemplateKey;
use replab::pg::conf::{self, PASSFILE, Upstream};
use replab::runtime::docker::DockerRuntime;
use replab::runtime::process::{ProcessRuntime, Programs};
use replab::runtime::{Dirs, Place, Runtime, owner};
use replab::workload::{WriterEvent, WriterPlan, Writers};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

const ROUNDS: usize = 9;
const SPAN: Duration = Duration::from_secs(2);
/// Log-ins, and the first commits under another rule.
const WARM: Duration = Duration::from_millis(300);
const CLIENTS: [u32; 2] = [1, 8];
const LIMIT: f64 = 1.25;
/// How long a repointed standby may take to stream again.
const AGAIN: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    common::run("relay", relay, docker::sweep)
}

async fn relay(bench: &mut Bench) -> Run<()> {
    let topology = Topology::primary_with(2);
    let folder = processes::folder()?;
    let dirs = Dirs { cache: folder.path().join("cache"), state: folder.path().join("state") };
    if wanted(bench, "process") {
        let key = TemplateKey::load_or_create(&dirs.cache)?;
        let programs = Programs::find(None, None)?;
        let runtime = ProcessRuntime::new(owner::current(owner::new_lab_id()), &dirs, programs)?;
        measure(bench, "process", drive(runtime, &key, &topology).await?.1).await?;
    }
    if wanted(bench, "docker") {
        let (engine, image) = docker::ground().await?;
        let key = match replab::app::setup::dirs() {
            Ok(dirs) => TemplateKey::load_or_create(&dirs.cache)?,
            Err(_) => TemplateKey::load_or_create(folder.path())?,
        };
        let runtime = DockerRuntime::new(owner::current(owner::new_lab_id()), engine, image);
        measure(bench, "docker", drive(runtime, &key, &topology).await?.1).await?;
    }
    Ok(())
}

fn case(ground: &str, clients: u32) -> String {
    format!("{ground} x{clients}")
}

fn wanted(bench: &Bench, ground: &str) -> bool {
    CLIENTS.iter().any(|clients| bench.wants(&case(ground, *clients)))
}

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

async fn measure<R: Runtime>(bench: &mut Bench, ground: &str, lab: Arc<Lab<R>>) -> Run<()> {
    let p = name("p");
    straighten(&lab, &name("s1"), &p).await?;
    let (control, target) = (lab.control(&p)?, lab.runtime.control_address(&p).await?);
    let mut first_client = 1;
    for clients in CLIENTS {
        let case = case(ground, clients);
        if !bench.wants(&case) {
            continue;
        }
        let rounds = bench.rounds(ROUNDS);
        let [direct, relayed] = bench
            .turns::<2>(rounds, async |side| {
                control.set_rule(["FIRST 1 (s1)", "FIRST 1 (s2)"][side]).await?;
                control.checkpoint().await?;
                first_client += 100;
                let plan = WriterPlan { target: Some(target), clients, ..WriterPlan::default() };
                commit_time(&lab, plan, first_client).await
            })
            .await?;
        bench.compare(&case, "us a commit", ("direct", &direct), &relayed, Goal::AtMost(LIMIT));
    }
    Ok(replab::drive::close(&lab).await?)
}

/// Takes the relay out of the way from a standby to its upstream.
async fn straighten<R: Runtime>(lab: &Lab<R>, standby: &NodeName, upstream: &NodeName) -> Run<()> {
    let (host, port) = lab.runtime.direct_address(upstream).await?;
    let passfile = lab.runtime.path(standby, &Place::Private(PASSFILE.to_owned()));
    let from = Upstream::with_slot(host.clone(), port, standby);
    let conninfo = conf::primary_conninfo(standby, &from, &passfile);
    let control = lab.control(standby)?;
    control.alter_system("primary_conninfo", Some(&conninfo)).await?;
    let (wanted, end) = (format!("{host}:{port}"), Instant::now() + AGAIN);
    loop {
        let receiver = control.sample().await?.receiver;
        if receiver.as_ref().is_some_and(|r| r.status == "streaming" && r.sender == wanted) {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(Oops::from(format!("{standby} should stream from {wanted}: {receiver:?}")));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Microseconds that a commit takes, each client writing one after another as fast as they return.
async fn commit_time<R: Runtime>(lab: &Lab<R>, plan: WriterPlan, first_client: u32) -> Run<f64> {
    let (tell, events) = mpsc::channel(64);
    let clients = f64::from(plan.clients);
    let writers = Writers::spawn(lab.passwords.writer.clone(), first_client, tell)?;
    writers.set(plan);
    let (told, mut acked) = watch::channel(0_u64);
    let counting = tokio::spawn(count(events, told));
    acked.wait_for(|count| *count > 0).await?;
    sleep(WARM).await;
    acked.changed().await?;
    let (began, before) = (Instant::now(), *acked.borrow_and_update());
    sleep(SPAN).await;
    acked.changed().await?;
    let (commits, span) = (*acked.borrow() - before, began.elapsed());
    writers.stop().await;
    counting.await?;
    Ok(clients * span.as_secs_f64() * 1e6 / commits as f64)
}

async fn count(mut events: mpsc::Receiver<WriterEvent>, told: watch::Sender<u64>) {
    while let Some(event) = events.recv().await {
        if let WriterEvent::Books { settled, .. } = event {
            let new: u64 = settled.iter().filter(|(_, ack)| *ack == Ack::Acked).map(|(range, _)| range.count()).sum();
            told.send_modify(|count| *count += new);
        }
    }
}
