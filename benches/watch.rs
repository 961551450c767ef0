//! What watching costs: our look at a primary with two standbys, ten times a second, against psql's `\watch 0.1` on
//! `pg_stat_replication` (CPU of client and backend); the throughput of writes with and without such looks at every node; and a whole
//! lab of three nodes that idles.

mod common;
#[path = "../tests/common/pgserver.rs"]
mod pgserver;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::{Bench, Goal, Oops, Run, Spread, cpu, processes};
use pgserver::{Lab, Server};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use replab::observe::Clock;
use replab::pg::Control;
use replab::workload::{WriterEvent, WriterPlan, Writers};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Ten looks a second.
const EVERY: Duration = Duration::from_millis(100);
const WATCH_ROUNDS: usize = 7;
const WATCH_SPAN: Duration = Duration::from_secs(4);
const WRITE_PAIRS: usize = 20;
const WRITE_SPAN: Duration = Duration::from_millis(1_500);
const WRITERS: u32 = 8;
const IDLE_SPAN: Duration = Duration::from_secs(10);
/// How long a lab may take to come up, and a watcher to have looked a few times.
const START: Duration = Duration::from_secs(30);
const WARM: Duration = Duration::from_millis(1_500);

fn main() -> ExitCode {
    common::run("watch", watch, common::docker::sweep)
}

async fn watch(bench: &mut Bench) -> Run<()> {
    for (case, what) in [("cpu of client and backend", 0), ("write throughput", 1)] {
        if bench.wants(case) {
            let lab = Lab::new().ok_or("no PostgreSQL programs")?;
            let p = lab.primary("p", &[]).await;
            let (s1, s2) = (lab.standby("s1", p.address.port()).await, lab.standby("s2", p.address.port()).await);
            match what {
                0 => cpu_of_looks(bench, case, &p).await?,
                _ => throughput(bench, case, &lab, &[p, s1, s2]).await?,
            }
        }
    }
    for (case, runtime, screen) in [
        ("idle lab, process, headless", "process", false),
        ("idle lab, process, screen", "process", true),
        ("idle lab, docker, headless", "docker", false),
        ("idle lab, docker, screen", "docker", true),
    ] {
        if bench.wants(case) {
            idle(bench, case, runtime, screen).await?;
        }
    }
    Ok(())
}

async fn cpu_of_looks(bench: &mut Bench, case: &str, p: &Server) -> Run<()> {
    let rounds = bench.rounds(WATCH_ROUNDS);
    let [theirs, ours] =
        bench.turns::<2>(rounds, async |side| if side == 0 { psql(p).await } else { look(p).await }).await?;
    bench.compare(case, "us of CPU a second", ("psql", &theirs), &ours, Goal::AtMost(0.5));
    Ok(())
}

/// A child process that is killed when dropped.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn psql(p: &Server) -> Run<f64> {
    let mut psql = p.program("psql");
    psql.args(["-X", "-U", "replab", "-d", "lab", "-h", "127.0.0.1", "-p"]).arg(p.address.port().to_string());
    psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut psql = Kept(psql.spawn()?);
    let mut input = psql.0.stdin.take().ok_or("psql takes no input")?;
    input.write_all(b"SELECT * FROM pg_stat_replication \\watch 0.1\n")?;
    share(psql.0.id(), p, "psql").await
}

/// CPU of a client and of its backend, in microseconds a second.
async fn share(client: u32, p: &Server, application: &str) -> Run<f64> {
    sleep(WARM).await;
    let sql = format!(
        "select pid from pg_stat_activity where application_name = '{application}' and pid <> pg_backend_pid()"
    );
    let backend: u32 = p.psql(&sql).lines().next_back().ok_or("no backend")?.parse()?;
    let used = || cpu::of_process(client) + cpu::of_process(backend);
    let (began, before) = (Instant::now(), used());
    sleep(WATCH_SPAN).await;
    Ok(1e6 * used().saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64())
}

/// Our looks, in a thread with a runtime of its own, which is all the client there is.
async fn look(p: &Server) -> Run<f64> {
    let control = p.fresh_control();
    let (stop, looks) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let (told, used) = std::sync::mpsc::channel();
    let end = stop.clone().drop_guard();
    let counted = Arc::clone(&looks);
    let thread = std::thread::spawn(move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Nobody asks any more when the bench was ended.
        drop(told.send(fs::read_link("/proc/thread-self")?));
        runtime.block_on(keep_looking(control, stop, counted));
        Ok(())
    });
    let task = used.recv_timeout(START)?;
    sleep(WARM).await;
    let backend: u32 = p
        .psql("select pid from pg_stat_activity where application_name = 'replab control' order by backend_start desc limit 1")
        .parse()?;
    let client = || cpu::of_task(&Path::new("/proc").join(&task));
    let now = || client() + cpu::of_process(backend);
    let (began, before, first) = (Instant::now(), now(), looks.load(Ordering::Relaxed));
    sleep(WATCH_SPAN).await;
    let (used, span) = (now().saturating_sub(before), began.elapsed());
    let rate = (looks.load(Ordering::Relaxed) - first) as f64 / span.as_secs_f64();
    drop(end);
    thread.join().map_err(|_| "the looking thread panicked")??;
    if (9.0..=11.0).contains(&rate) {
        Ok(1e6 * used.as_secs_f64() / span.as_secs_f64())
    } else {
        Err(format!("{rate:.1} looks a second instead of 10").into())
    }
}

async fn keep_looking(control: Control, stop: CancellationToken, looks: Arc<AtomicU64>) {
    let mut clock = Clock::every(EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.tick() => {}
        }
        if control.sample().await.is_ok() {
            looks.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Eight writers go on all the time; windows with ten looks a second at every node, and without, turn by turn.
async fn throughput(bench: &mut Bench, case: &str, lab: &Lab, nodes: &[Server; 3]) -> Run<()> {
    let (tell, mut events) = mpsc::channel(16);
    let writers = Writers::spawn(lab.passwords.writer.clone(), 1, tell)?;
    writers.set(WriterPlan { target: Some(nodes[0].address), clients: WRITERS, ..WriterPlan::default() });
    let acked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&acked);
    let counting = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let WriterEvent::Books { settled, .. } = event {
                counted.fetch_add(settled.iter().map(|(range, _)| range.count()).sum(), Ordering::Relaxed);
            }
        }
    });
    sleep(WARM).await;
    let (mut alone, mut watched) = (Vec::new(), Vec::new());
    for pair in 0..bench.rounds(WRITE_PAIRS) {
        for with in if pair % 2 == 0 { [false, true] } else { [true, false] } {
            let stop = CancellationToken::new();
            let _end = stop.clone().drop_guard();
            for node in nodes.iter().filter(|_| with) {
                tokio::spawn(keep_looking(node.control.clone(), stop.clone(), Arc::default()));
            }
            let (began, before) = (Instant::now(), acked.load(Ordering::Relaxed));
            sleep(WRITE_SPAN).await;
            let rate = (acked.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
            if with { watched.push(rate) } else { alone.push(rate) }
        }
    }
    writers.stop().await;
    counting.await?;
    bench.compare(case, "writes/s", ("unwatched", &alone), &watched, Goal::AtLeast(0.98));
    Ok(())
}

/// A lesson in which nothing happens for longer than the bench takes.
const IDLE: &str = r#"
title = "Idle"
summary = "Three nodes, and nobody writes."
[writer]
paused = true
[[step]]
wait = "state(p) = frozen"
within = "10m"
"#;

/// The program itself, a lab of three nodes, looked at four times a second, nobody writing; its own CPU in percent of a core.
async fn idle(bench: &mut Bench, case: &str, runtime: &str, screen: bool) -> Run<()> {
    if runtime == "docker" {
        drop(common::docker::ground().await?);
    }
    let folder = processes::folder()?;
    let lesson = folder.path().join("idle.toml");
    fs::write(&lesson, IDLE)?;
    let program = Program::start(folder.path(), &lesson, runtime, screen)?;
    program.until_live().await?;
    bench.quiet().await;
    let mut figures = Vec::new();
    for _ in 0..bench.rounds(3) {
        let used = || cpu::of_all_threads(program.pid).ok_or_else(|| Oops::from("the lab has ended"));
        let (began, before) = (Instant::now(), used()?);
        sleep(IDLE_SPAN).await;
        let used = used()?.saturating_sub(before);
        figures.push(100.0 * used.as_secs_f64() / began.elapsed().as_secs_f64());
    }
    let spread = Spread::of(&figures);
    bench.tell(case, &format!("{spread:.2} percent of a core"));
    bench.goal(&format!("{case}, percent of a core"), spread.median, Goal::AtMost(2.0));
    Ok(())
}

/// A running replab in a pseudo-terminal; ended by SIGTERM when dropped, so that it removes its lab.
struct Program {
    pid: u32,
    child: Box<dyn portable_pty::Child + Send + Sync>,
    screen: Arc<Mutex<vt100::Parser>>,
    _terminal: Box<dyn portable_pty::MasterPty + Send>,
}

impl Program {
    fn start(folder: &Path, lesson: &Path, runtime: &str, screen: bool) -> Run<Self> {
        let (rows, cols) = (50, 200);
        let pair = native_pty_system().openpty(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 })?;
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_replab"));
        command.args(["play", &lesson.to_string_lossy(), "--runtime", runtime]);
        if !screen {
            command.arg("--headless");
        }
        command.env("TERM", "xterm-256color");
        // Its templates and labs go with the bench's folder; containers' templates stay on the engine, under the person's key.
        if runtime == "process" {
            command.env("XDG_CACHE_HOME", folder.join("cache"));
        }
        command.env("XDG_STATE_HOME", folder.join("state"));
        let child = pair.slave.spawn_command(command)?;
        let pid = child.process_id().ok_or("the program has no id")?;
        let parser = Arc::new(Mutex::new(vt100::Parser::new(rows, cols, 0)));
        let (mut output, taking) = (pair.master.try_clone_reader()?, Arc::clone(&parser));
        std::thread::spawn(move || {
            let mut bytes = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                taking.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..count]);
            }
        });
        Ok(Self { pid, child, screen: parser, _terminal: pair.master })
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// Waits until the lab says that it is up.
    async fn until_live(&self) -> Run<()> {
        let end = Instant::now() + START;
        while !self.text().contains("nodes are up after") {
            if Instant::now() >= end {
                return Err(format!("the lab doesn't come up:\n{}", self.text()).into());
            }
            sleep(EVERY).await;
        }
        sleep(WARM).await;
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid.cast_signed()) {
            // Gone already is fine.
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + START;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(EVERY);
        }
        let _ = self.child.kill();
    }
}
