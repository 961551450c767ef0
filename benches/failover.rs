//! Automatic failover as processes, fencing on, against the limit script on the same kind of cluster in the same run.
//!
//! The script has everything ready before the kill: sessions to both standbys, slots, a prepared INSERT. It waits until both have
//! seen the end of the stream, chooses the more advanced, promotes it without waiting for the promotion, and tries to commit;
//! the other one is told right after. Ours is the program's own way: detector, fencing, election, writer, books. Both count from
//! `kill -9`. A frozen and a cut-off primary have no script: they are measured against the configured timeout.

mod common;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{Bench, Goal, Oops, Run, ms, processes};
use replab::app::session::{Session, TICK};
use replab::model::command::{Command, Rate};
use replab::model::msg::{Msg, Opening, Origin, Topology, WriterPlan};
use replab::model::{Model, NodeName, Stage};
use replab::pg::TemplateKey;
use replab::pg::sql::{CONTROL_ROLE, DATABASE, INSERT};
use replab::runtime::process::{ProcessRuntime, Programs};
use replab::runtime::{Dirs, Runtime, owner};
use tokio::time::interval;
use tokio_postgres::{Client, NoTls};

const ROUNDS: usize = 7;
const TIMEOUT: Duration = Duration::from_secs(1);
/// What detection may take beyond the timeout, with all that follows until the first acknowledged write.
const ABOVE_TIMEOUT_MS: f64 = 250.0;
const LIMIT: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    common::run("failover", failover, async || {})
}

async fn failover(bench: &mut Bench) -> Run<()> {
    let folder = processes::folder()?;
    let ground = Ground::new(folder.path())?;
    if bench.wants("kill") {
        let (mut repointed, mut turn) = ([Vec::new(), Vec::new()], 0);
        let rounds = bench.rounds(ROUNDS);
        let [script, ours] = bench
            .turns::<2>(rounds, async |side| {
                turn += 1;
                let (acked, all) =
                    if side == 0 { ground.script(turn).await? } else { ground.ours(&["kill p"]).await? };
                repointed[side].push(all);
                Ok(acked)
            })
            .await?;
        bench.compare("kill / first acked write", "ms", ("script", &script), &ours, Goal::AtMost(2.0));
        let [script, ours] = repointed;
        bench.compare("kill / all repointed", "ms", ("script", &script), &ours, Goal::AtMost(2.0));
    }
    for (case, faults) in [("frozen", &["freeze p"][..]), ("cut off", &["cut p s1", "cut p s2"])] {
        if !bench.wants(case) {
            continue;
        }
        let rounds = bench.rounds(3);
        let [ours] = bench.turns::<1>(rounds, async |_| Ok(ground.ours(faults).await?.0)).await?;
        let figures = ours.iter().map(|n| format!("{n:.0}")).collect::<Vec<_>>().join(" ");
        bench.tell(case, &format!("first acked write after {figures} ms, timeout {} ms", TIMEOUT.as_millis()));
        let above = common::Spread::of(&ours).median - TIMEOUT.as_secs_f64() * 1e3;
        bench.goal(&format!("{case} / ms above the timeout"), above, Goal::AtMost(ABOVE_TIMEOUT_MS));
    }
    Ok(())
}

struct Ground {
    programs: Programs,
    dirs: Dirs,
    key: TemplateKey,
}

type Lab = Session<ProcessRuntime>;

fn name(text: &str) -> NodeName {
    text.parse().unwrap_or_else(|_| unreachable!("{text} is a name"))
}

/// Takes in what happens until the model says so.
async fn until(lab: &mut Lab, what: &str, so: impl Fn(&Model) -> bool) -> Run<()> {
    let (end, mut clock) = (Instant::now() + LIMIT, interval(TICK));
    while !so(&lab.model) {
        if Instant::now() >= end {
            let last = lab.model.journal.entries().next_back().map(|e| e.text.clone()).unwrap_or_default();
            return Err(format!("waited in vain for {what}; last: {last}").into());
        }
        tokio::select! {
            _ = lab.next() => {}
            _ = clock.tick() => lab.take(Msg::Tick),
        }
    }
    Ok(())
}

async fn close(lab: Lab) -> Run<()> {
    lab.close().await.map_err(|why| Oops::from(why.to_string()))
}

impl Ground {
    fn new(folder: &Path) -> Run<Self> {
        let dirs = Dirs { cache: folder.join("cache"), state: folder.join("state") };
        Ok(Self { programs: Programs::find(None, None)?, key: TemplateKey::load_or_create(&dirs.cache)?, dirs })
    }

    /// A primary with two standbys that stream, and writes that go on.
    async fn lab(&self) -> Run<Lab> {
        let lab = owner::new_lab_id();
        let runtime = ProcessRuntime::new(owner::current(lab.clone()), &self.dirs, self.programs.clone())?;
        let opening = Opening {
            runtime: runtime.kind().to_owned(),
            lab,
            source: String::new(),
            topology: Topology::primary_with(2),
            script: None,
            read_only: false,
            disk_floor: 0,
            writer: WriterPlan { clients: 4, rate: Rate::PerSecond(400), ..WriterPlan::default() },
        };
        let mut lab =
            Session::open(runtime, self.key.clone(), opening, None).map_err(|why| Oops::from(why.to_string()))?;
        until(&mut lab, "the lab", |m| m.stage == Stage::Live && m.ledger.counts().acked >= 100).await?;
        Ok(lab)
    }

    /// From the fault to the first acknowledged write, and to all standbys following.
    async fn ours(&self, faults: &[&str]) -> Run<(f64, f64)> {
        let mut lab = self.lab().await?;
        let command = |text: &str| text.parse::<Command>().map_err(|why| Oops::from(why.to_string()));
        lab.ask(command(&format!("auto-failover on timeout {}s", TIMEOUT.as_secs()))?, Origin::You);
        let probed = |m: &Model| m.nodes.iter().all(|n| m.detector.last_good(&n.name).is_some());
        until(&mut lab, "the first probes", probed).await?;
        let began = Instant::now();
        for fault in faults {
            lab.ask(command(fault)?, Origin::You);
        }
        until(&mut lab, "the first write", |m| m.handovers.last().is_some_and(|h| h.acked.is_some())).await?;
        let acked = ms(began);
        until(&mut lab, "all to follow", |m| m.handovers.last().is_some_and(|h| h.repointed.is_some())).await?;
        let all = ms(began).max(acked);
        let all = lab
            .model
            .handovers
            .last()
            .and_then(|h| h.repointed.zip(Some(h.began)))
            .map_or(all, |(to, from)| to.0.saturating_sub(from.0) as f64 / 1e3);
        close(lab).await?;
        Ok((acked, all))
    }

    /// The limit.
    async fn script(&self, turn: u32) -> Run<(f64, f64)> {
        let mut lab = self.lab().await?;
        lab.ask(Command::Pause, Origin::You);
        lab.ask(Command::Heartbeat(false), Origin::You);
        until(&mut lab, "no write under way", |m| m.ledger.counts().pending == 0).await?;
        let (s1, s2) = (Standby::of(&lab, "s1").await?, Standby::of(&lab, "s2").await?);
        s1.client.execute("SELECT pg_create_physical_replication_slot('s2', true)", &[]).await?;
        s2.client.execute("SELECT pg_create_physical_replication_slot('s1', true)", &[]).await?;
        let began = Instant::now();
        let killer = {
            let lab = std::sync::Arc::clone(&lab.lab);
            tokio::spawn(async move { lab.runtime.kill(&name("p")).await })
        };
        tokio::try_join!(s1.end_of_stream(), s2.end_of_stream())?;
        let (a, b) = tokio::try_join!(s1.place(), s2.place())?;
        let (new, other) = if a >= b { (&s1, &s2) } else { (&s2, &s1) };
        new.client.execute("SELECT pg_promote(wait => false)", &[]).await?;
        let acked = new.first_commit(began, 1_000_000 + turn.cast_signed()).await?;
        other.follow(new).await?;
        processes::streaming(&new.client, 1).await?;
        let all = ms(began);
        killer.await??;
        close(lab).await?;
        Ok((acked, all))
    }
}

/// A standby with a session of the script's own.
struct Standby {
    name: &'static str,
    port: u16,
    client: Client,
    insert: tokio_postgres::Statement,
}

impl Standby {
    async fn of(lab: &Lab, node: &'static str) -> Run<Self> {
        let address = lab.lab.runtime.control_address(&name(node)).await?;
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(address.port()).user(CONTROL_ROLE).dbname(DATABASE);
        let (client, connection) = config.password(lab.lab.passwords.control.reveal()).connect(NoTls).await?;
        tokio::spawn(connection);
        let insert = client.prepare(INSERT).await?;
        Ok(Self { name: node, port: address.port(), client, insert })
    }

    async fn end_of_stream(&self) -> Run<()> {
        let sql = "SELECT count(*) FROM pg_stat_wal_receiver";
        while self.client.query_one(sql, &[]).await?.try_get::<_, i64>(0)? > 0 {
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    }

    async fn place(&self) -> Run<u64> {
        let sql = "SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0')::bigint";
        Ok(self.client.query_one(sql, &[]).await?.try_get::<_, i64>(0)?.cast_unsigned())
    }

    async fn first_commit(&self, began: Instant, client: i32) -> Run<f64> {
        // 25006: it is a standby still.
        while let Err(why) = self.client.execute(&self.insert, &[&client, &1_i64, &"x"]).await {
            if why.code().map(tokio_postgres::error::SqlState::code) != Some("25006") || began.elapsed() > LIMIT {
                return Err(why.into());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(ms(began))
    }

    async fn follow(&self, new: &Self) -> Run<()> {
        let now: String = self.client.query_one("SHOW primary_conninfo", &[]).await?.try_get(0)?;
        let words =
            now.split(' ').map(|w| if w.starts_with("port=") { format!("port={}", new.port) } else { w.to_owned() });
        let conninfo = words.collect::<Vec<_>>().join(" ").replace('\'', "''");
        if !conninfo.contains(self.name) {
            return Err(format!("{} has a strange primary_conninfo: {now}", self.name).into());
        }
        self.client.batch_execute(&format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'")).await?;
        self.client.batch_execute("SELECT pg_reload_conf()").await?;
        Ok(())
    }
}
