//! A real lab driven from a test as the program drives it: commands asked, messages taken in, conditions waited for with a
//! deadline. And `psql` beside it, which shares no code with the lab.

#![allow(dead_code, reason = "each test program uses another part")]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bollard::exec::{CreateExecOptions, StartExecOptions};
use replab::app::plain::{self, Manner};
use replab::app::recorder::{Recorder, Shelf};
use replab::app::session::{Came, Session, TICK};
use replab::app::signals;
use replab::model::admit::admit;
use replab::model::command::Command;
use replab::model::msg::{Msg, OpId, Opening, Origin, Topology, WriterPlan};
use replab::model::{Model, NodeName, Stage as Life};
use replab::pg::TemplateKey;
use replab::recording::{FORMAT, Header};
use replab::runtime::docker::{DockerRuntime, Engine};
use replab::runtime::process::{ProcessRuntime, Programs};
use replab::runtime::{Runtime, owner};
use rustix::process::{Pid, Signal};
use tokio::time::{MissedTickBehavior, interval};

use super::house::{Ground, House};
use super::way::Way;

/// How long something may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// A lab that lives, and the home it lives in.
pub struct Stage<R: Runtime> {
    pub session: Session<R>,
    house: House,
}

pub fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

impl Stage<ProcessRuntime> {
    /// A lab of processes.
    pub async fn of_processes(topology: Topology, writer: WriterPlan) -> Option<Self> {
        let house = House::on(Ground::Process)?;
        let programs = Programs::find(None, None).expect("they are there");
        let lab = owner::new_lab_id();
        let runtime = ProcessRuntime::new(owner::current(lab.clone()), &house.dirs(), programs).unwrap();
        Some(Self::open(house, runtime, lab, (topology, writer)).await)
    }

    /// The same, recorded into a file.
    pub async fn of_processes_recorded(topology: Topology, writer: WriterPlan, file: &Path) -> Option<Self> {
        let house = House::on(Ground::Process)?;
        let programs = Programs::find(None, None).expect("they are there");
        let lab = owner::new_lab_id();
        let header = Header { replab_recording: FORMAT, lab: lab.clone(), ..Header::default() };
        let recorder = Recorder::begin(&Shelf::File(file.to_owned()), header).unwrap();
        let runtime = ProcessRuntime::new(owner::current(lab.clone()), &house.dirs(), programs).unwrap();
        Some(Self::open_recorded(house, runtime, lab, (topology, writer), Some(recorder)).await)
    }
}

impl Stage<DockerRuntime> {
    /// A lab of containers.
    pub async fn in_docker(major: u32, topology: Topology, writer: WriterPlan) -> Option<Self> {
        Self::in_docker_as(owner::new_lab_id(), major, topology, writer).await
    }

    /// The same with an id that is known before.
    pub async fn in_docker_as(lab: String, major: u32, topology: Topology, writer: WriterPlan) -> Option<Self> {
        super::pgserver::programs_or_skip()?;
        let (engine, image) = super::images::ground_or_skip(major).await?;
        let house = House::prepared(Ground::Docker(major));
        let runtime = DockerRuntime::new(owner::current(lab.clone()), engine, image);
        Some(Self::open(house, runtime, lab, (topology, writer)).await)
    }
}

impl Stage<DockerRuntime> {
    /// The same with a way to the engine that can be cut.
    pub async fn in_docker_by_a_way(major: u32, topology: Topology, writer: WriterPlan) -> Option<(Self, Way)> {
        super::pgserver::programs_or_skip()?;
        let (engine, image) = super::images::ground_or_skip(major).await?;
        let mut way = Way::new(engine.socket());
        way.open(true);
        let through = Engine::at(&way.socket()).await.expect("the engine behind the way");
        let house = House::prepared(Ground::Docker(major));
        let lab = owner::new_lab_id();
        let runtime = DockerRuntime::new(owner::current(lab.clone()), through, image);
        Some((Self::open(house, runtime, lab, (topology, writer)).await, way))
    }
}

impl<R: Runtime> Stage<R> {
    async fn open(house: House, runtime: R, lab: String, shape: (Topology, WriterPlan)) -> Self {
        Self::open_recorded(house, runtime, lab, shape, None).await
    }

    async fn open_recorded(
        house: House,
        runtime: R,
        lab: String,
        (topology, writer): (Topology, WriterPlan),
        recorder: Option<Recorder>,
    ) -> Self {
        house.remember(&lab);
        let key = TemplateKey::load_or_create(&house.dirs().cache).unwrap();
        let opening = Opening {
            runtime: runtime.kind().to_owned(),
            lab,
            source: String::new(),
            topology,
            script: None,
            read_only: false,
            writer,
            disk_floor: 0,
        };
        let mut stage = Self { session: Session::open(runtime, key, opening, recorder).unwrap(), house };
        stage.until("the lab to live", |m| (m.stage != Life::Starting).then_some(())).await;
        assert_eq!(stage.session.model.stage, Life::Live);
        assert!(stage.model().nodes.iter().all(|n| n.seen.is_some()), "it is live only when every node has been seen");
        println!("up after {} ms", stage.model().bring_up_ms.unwrap_or_default());
        stage
    }

    pub fn model(&self) -> &Model {
        &self.session.model
    }

    /// Takes in what happens until the model gives something.
    pub async fn until<T>(&mut self, what: &str, look: impl Fn(&Model) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(found) = look(&self.session.model) {
                return found;
            }
            assert!(Instant::now() < end, "waited in vain for {what}\n{}", self.journal());
            tokio::select! {
                came = self.session.next() => assert_ne!(came, Came::Nothing, "the lab ended"),
                _ = clock.tick() => self.session.take(Msg::Tick),
            }
        }
    }

    /// The same for a condition.
    pub async fn until_so(&mut self, what: &str, holds: impl Fn(&Model) -> bool) {
        self.until(what, |m| holds(m).then_some(())).await;
    }

    /// Lets the lab go on while something else is done, and looks at it all the while.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>, mut look: impl FnMut(&Model)) -> T {
        tokio::pin!(work);
        let mut clock = interval(TICK);
        loop {
            tokio::select! {
                done = &mut work => return done,
                came = self.session.next() => assert_ne!(came, Came::Nothing, "the lab ended"),
                _ = clock.tick() => self.session.take(Msg::Tick),
            }
            look(&self.session.model);
        }
    }

    /// Gives a command and waits until all that it became has ended well; how long that took.
    pub async fn command(&mut self, text: &str) -> Duration {
        let why = self.try_command(text).await;
        why.unwrap_or_else(|why| panic!("{text}: {why}\n{}", self.journal()))
    }

    /// The same for one that may fail.
    pub async fn try_command(&mut self, text: &str) -> Result<Duration, String> {
        let command: Command = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        admit(self.model(), &command)?;
        let (first, began) = (self.model().next_op, Instant::now());
        self.session.ask(command, Origin::You);
        let ids: Vec<OpId> = (first..self.model().next_op).map(OpId).collect();
        self.until_so(text, |m| ids.iter().all(|id| !m.ops.contains_key(id))).await;
        let failed = ids.iter().find_map(|id| self.model().ended.get(id).cloned().flatten());
        println!("{text}: {} ms", began.elapsed().as_millis());
        failed.map_or(Ok(began.elapsed()), Err)
    }

    /// Waits until what the writer did up to now has come into the books: it is on its way for a moment, and a pulse comes after it.
    /// The first pulse may have been on its way itself.
    pub async fn books_are_up_to_date(&mut self) {
        for _ in 0..2 {
            let last = self.model().writer.pulse_at;
            self.until_so("a pulse of the writer", |m| m.writer.pulse_at > last).await;
        }
    }

    /// Lets the writer rest until nothing is under way.
    pub async fn rest(&mut self) {
        self.command("pause").await;
        self.books_are_up_to_date().await;
        self.until_so("no write under way", |m| m.ledger.counts().pending == 0).await;
    }

    /// What plain `psql` says of a node, in database `lab`. Without a node's commits waiting for any standby.
    pub async fn psql(&mut self, node: &str, sql: &str) -> String {
        match self.try_psql(node, sql).await {
            Ok(text) => text,
            Err(why) => panic!("{sql} on {node}: {why}\n{}", self.journal()),
        }
    }

    /// The same for what may fail.
    pub async fn try_psql(&mut self, node: &str, sql: &str) -> Result<String, String> {
        self.psql_while(node, sql, |_| ()).await
    }

    /// The same, looking at the lab meanwhile.
    pub async fn psql_while(&mut self, node: &str, sql: &str, look: impl FnMut(&Model)) -> Result<String, String> {
        // A separately initialised server (the tests call it x) has no database of the lab's.
        self.psql_in(if node == "x" { "postgres" } else { "lab" }, node, sql, look).await
    }

    /// Everything that `psql` prints within a time: answers, notices and errors. None: it was not done by then, and is ended.
    pub async fn psql_within(&mut self, limit: Duration, node: &str, sql: &str) -> Option<String> {
        let mut psql = self.psql_for("lab", node, sql).await.unwrap();
        let output = self.during(tokio::time::timeout(limit, psql.output()), |_| ()).await.ok()?.unwrap();
        Some([output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat())
    }

    /// The same of several nodes at once, each with this much time; one that fails or doesn't answer by then is left out.
    pub async fn psql_of_all(&mut self, nodes: &[String], sql: &str, limit: Duration) -> Vec<(String, String)> {
        let mut asked = Vec::new();
        for node in nodes {
            if let Ok(mut psql) = self.psql_for("lab", node, sql).await {
                let node = node.clone();
                asked.push(async move { Some((node, tokio::time::timeout(limit, psql.output()).await.ok()?.ok()?)) });
            }
        }
        let ended = self.during(futures_util::future::join_all(asked), |_| ()).await;
        let good = ended.into_iter().flatten().filter(|(_, output)| output.status.success());
        good.map(|(node, output)| (node, String::from_utf8_lossy(&output.stdout).trim().to_owned())).collect()
    }

    /// The same in a database of one's choice.
    pub async fn psql_in(
        &mut self,
        database: &str,
        node: &str,
        sql: &str,
        look: impl FnMut(&Model),
    ) -> Result<String, String> {
        let mut psql = self.psql_for(database, node, sql).await?;
        let output = self.during(psql.output(), look).await.map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    async fn psql_for(&self, database: &str, node: &str, sql: &str) -> Result<tokio::process::Command, String> {
        let address = self.session.lab.runtime.control_address(&name(node)).await.map_err(|e| e.to_string())?;
        let programs = super::pgserver::programs().expect("they are there");
        let mut psql = tokio::process::Command::new(programs.join("psql"));
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "replab", "-d", database, "-h"]);
        psql.arg(address.ip().to_string()).arg("-p").arg(address.port().to_string()).args(["-c", sql]);
        psql.env("PGPASSWORD", self.session.lab.passwords.control.reveal());
        psql.env("PGOPTIONS", "-c synchronous_commit=local").env("PGCONNECT_TIMEOUT", "5").stdin(Stdio::null());
        psql.kill_on_drop(true);
        Ok(psql)
    }

    /// Asks `psql` until it says this; how long that took.
    pub async fn until_psql(&mut self, node: &str, sql: &str, wanted: &str) -> Duration {
        let began = Instant::now();
        loop {
            let said = self.try_psql(node, sql).await;
            if said.as_deref() == Ok(wanted) {
                return began.elapsed();
            }
            assert!(began.elapsed() < DEADLINE, "{sql} on {node} says {said:?}, not {wanted}\n{}", self.journal());
        }
    }

    /// SIGKILL to one server process of a node, as the kernel sends it to one that took too much memory.
    pub async fn kill_process_of(&self, node: &str, pid: i32) {
        if self.house.ground == Ground::Process {
            return rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        }
        let container = format!("replab-{}-{node}", self.session.model.lab);
        let cmd = vec!["sh".to_owned(), "-c".to_owned(), format!("kill -9 {pid}")];
        let options = CreateExecOptions { cmd: Some(cmd), ..CreateExecOptions::default() };
        let engine = super::house::bare().await.expect("an engine");
        let exec = engine.create_exec(&container, options).await.unwrap();
        let detached = StartExecOptions { detach: true, ..StartExecOptions::default() };
        engine.start_exec(&exec.id, Some(detached)).await.unwrap();
    }

    /// All that the engine tells of a node to whoever may ask it, as JSON; None where there is no engine.
    pub async fn inspected(&self, node: &str) -> Option<String> {
        if self.house.ground == Ground::Process {
            return None;
        }
        let engine = super::house::bare().await.expect("an engine");
        let container = format!("replab-{}-{node}", self.session.model.lab);
        let found = engine.inspect_container(&container, None).await.expect("its container");
        Some(serde_json::to_string(&found).unwrap())
    }

    /// The journal, for a test that failed.
    pub fn journal(&self) -> String {
        let line = |e: &replab::model::journal::Entry| format!("  {:8.3} {}\n", e.at.0 as f64 / 1e6, e.text);
        let told: String = self.model().journal.entries().map(line).collect();
        let logs = self.model().nodes.iter().flat_map(|n| {
            n.logs
                .iter()
                .rev()
                .take(8)
                .rev()
                .map(move |l| format!("  {}: {} {}\n", n.name, l.line.severity, l.line.text))
        });
        told + &logs.collect::<String>()
    }

    /// Plays on as `up --headless` does, until the run is over; its exit code. Nothing of the lab may be left then.
    pub async fn play_on(self) -> u8 {
        let lab = self.session.model.lab.clone();
        let manner = Manner { quiet: true, headless: true, ..Manner::default() };
        let mut ended: signals::Ended = Box::pin(std::future::pending());
        let played = tokio::time::timeout(DEADLINE, plain::play(self.session, &manner, &mut ended)).await;
        let code = played.expect("it comes to an end").unwrap();
        Self::nothing_is_left(self.house, lab).await;
        code
    }

    /// Ends the lab; nothing of it may be left.
    pub async fn close(self) {
        let lab = self.session.model.lab.clone();
        let began = Instant::now();
        self.session.close().await.unwrap();
        println!("closed in {} ms", began.elapsed().as_millis());
        Self::nothing_is_left(self.house, lab).await;
    }

    async fn nothing_is_left(house: House, lab: String) {
        let left = tokio::task::spawn_blocking(move || house.remains(&lab)).await.unwrap();
        assert!(left.is_empty(), "left: {left:#?}");
    }
}

/// Tests on every ground: `everywhere! { writer; fn_name ... }`, each an `async fn name<R: Runtime>(stage: Stage<R>)`, on a primary
/// with two standbys and this writer. On PostgreSQL 19 only the full set plays them.
#[macro_export]
macro_rules! everywhere {
    ($writer:expr; $($name:ident)*) => {
        $crate::on_grounds! { (ignore = "the full set plays it") $writer; $($name)* }
    };
}

/// The same for what may go by the version of PostgreSQL: played on 19 too.
#[macro_export]
macro_rules! on_every_version {
    ($writer:expr; $($name:ident)*) => { $crate::on_grounds! { (cfg(all())) $writer; $($name)* } };
}

/// How both are written: the attribute is that of the tests on 19.
#[macro_export]
macro_rules! on_grounds {
    (($on_19:meta) $writer:expr; $($name:ident)*) => {$(
        mod $name {
            use super::*;
            use $crate::common::stage::Stage;
            use replab::model::msg::Topology;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn as_processes() {
                if let Some(stage) = Stage::of_processes(Topology::primary_with(2), $writer).await {
                    super::$name(stage).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_docker_17() {
                if let Some(stage) = Stage::in_docker(17, Topology::primary_with(2), $writer).await {
                    super::$name(stage).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_docker_18() {
                if let Some(stage) = Stage::in_docker(18, Topology::primary_with(2), $writer).await {
                    super::$name(stage).await;
                }
            }

            #[$on_19]
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_docker_19() {
                if let Some(stage) = Stage::in_docker(19, Topology::primary_with(2), $writer).await {
                    super::$name(stage).await;
                }
            }
        }
    )*};
}
