//! The writers against pgbench, on the same cluster in the same run: the same single-row INSERT, prepared, one thread on each
//! side. Ours go through the program's own way: messages, taken in by the model's update, which keeps the books; what counts is
//! what the books have as acknowledged.

mod common;
#[path = "../tests/common/pgserver.rs"]
mod pgserver;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{Bench, Goal, Oops, Run};
use pgserver::{Lab, Server};
use replab::model::msg::{Msg, Opening, Topology, WriterPlan as Wanted};
use replab::model::{Model, Stamp, update};
use replab::workload::{WriterPlan, Writers, forward};
use tokio::sync::{mpsc, watch};

const ROUNDS: usize = 11;
/// How long each side writes; pgbench counts whole seconds.
const SPAN: Duration = Duration::from_secs(1);
const CLIENTS: [u32; 3] = [1, 8, 32];
/// As the lab has it.
const INBOX: usize = 4_096;
const PAYLOAD_BYTES: usize = 32;

/// A rule, a level, and what must be reached.
const LEVELS: [(&str, &str, &str, f64); 4] = [
    ("off", "", "off", 0.9),
    ("async", "", "on", 0.95),
    ("first 1 on", "FIRST 1 (s1)", "on", 0.95),
    ("remote_apply", "FIRST 1 (s1)", "remote_apply", 0.95),
];

fn main() -> ExitCode {
    common::run("writer", writer, async || {})
}

async fn writer(bench: &mut Bench) -> Run<()> {
    let lab = Lab::new().ok_or("no PostgreSQL programs")?;
    let p = lab.primary("p", &[]).await;
    let (_s1, _s2) = (lab.standby("s1", p.address.port()).await, lab.standby("s2", p.address.port()).await);
    let mut first_client = 1;
    for (label, rule, level, least) in LEVELS {
        p.control.set_rule(rule).await?;
        for clients in CLIENTS {
            let case = format!("{label} x{clients}");
            if !bench.wants(&case) {
                continue;
            }
            let rounds = bench.rounds(ROUNDS);
            let [theirs, ours] = bench
                .turns::<2>(rounds, async |side| {
                    p.psql("truncate replab.writes");
                    p.control.checkpoint().await?;
                    if side == 0 {
                        return pgbench(&p, clients, level).await;
                    }
                    first_client += 100;
                    ours(&lab, &p, clients, level, first_client).await
                })
                .await?;
            bench.compare(&case, "writes/s", ("pgbench", &theirs), &ours, Goal::AtLeast(least));
        }
    }
    Ok(())
}

async fn pgbench(p: &Server, clients: u32, level: &str) -> Run<f64> {
    let script = tempfile::NamedTempFile::new()?;
    let payload = "x".repeat(PAYLOAD_BYTES);
    let text = format!(
        "\\set seq :seq + 1\nINSERT INTO replab.writes(client, seq, payload) VALUES (:client_id, :seq, '{payload}');\n"
    );
    fs::write(script.path(), text)?;
    fs::set_permissions(script.path(), fs::Permissions::from_mode(0o644))?;
    let mut pgbench = p.program("pgbench");
    pgbench.args(["-n", "-M", "prepared", "-j", "1", "-D", "seq=0", "-U", "replab", "-h", "127.0.0.1", "-p"]);
    pgbench.arg(p.address.port().to_string()).arg("-c").arg(clients.to_string());
    pgbench.arg("-T").arg(SPAN.as_secs().to_string()).arg("-f").arg(script.path()).arg("lab");
    pgbench.env("PGOPTIONS", format!("-c synchronous_commit={level}"));
    let output = tokio::process::Command::from(pgbench).kill_on_drop(true).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.ok_or_else(|| Oops::from(format!("pgbench: {}", String::from_utf8_lossy(&output.stderr))))
}

/// Acknowledged writes a second, by the model's books.
async fn ours(lab: &Lab, p: &Server, clients: u32, level: &str, first_client: u32) -> Run<f64> {
    let (out, inbox) = mpsc::channel(INBOX);
    let (tell, mut acked) = watch::channel(0);
    let desk = tokio::spawn(keep_books(inbox, tell));
    let (events, _) = forward(out);
    let writers = Writers::spawn(lab.passwords.writer.clone(), first_client, events)?;
    let payload_bytes = PAYLOAD_BYTES;
    let (target, level) = (Some(p.address), level.to_owned());
    writers.set(WriterPlan { target, clients, level, payload_bytes, ..WriterPlan::default() });
    acked.wait_for(|count| *count > 0).await?;
    let (began, before) = (Instant::now(), *acked.borrow());
    tokio::time::sleep(SPAN).await;
    // The books come every 20 ms: the count belongs to the moment when they came.
    acked.changed().await?;
    let (count, span) = (*acked.borrow() - before, began.elapsed());
    writers.stop().await;
    let model = desk.await?;
    let counts = model.ledger.counts();
    if !model.ledger.adds_up() || counts.acked + counts.unknown != counts.tried {
        return Err(format!("the books don't add up: {counts:?}").into());
    }
    Ok(count as f64 / span.as_secs_f64())
}

/// Takes messages in as the lab does; tells how many writes are booked as acknowledged.
async fn keep_books(mut inbox: mpsc::Receiver<Msg>, tell: watch::Sender<u64>) -> Model {
    let began = Instant::now();
    let mut model = Model::default();
    let opening = Opening {
        disk_floor: 0,
        lab: "00000000".to_owned(),
        runtime: "process".to_owned(),
        source: String::new(),
        topology: Topology::primary_with(2),
        script: None,
        read_only: false,
        writer: Wanted::default(),
    };
    update(&mut model, Stamp(0), Msg::Open(Box::new(opening)));
    while let Some(msg) = inbox.recv().await {
        update(&mut model, Stamp(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)), msg);
        let acked = model.ledger.counts().acked;
        tell.send_if_modified(|told| std::mem::replace(told, acked) != acked);
    }
    model
}
