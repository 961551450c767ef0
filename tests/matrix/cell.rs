//! One fault in one mode, from a fresh lab to the verdict, with what must be so in each.

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use replab::model::cluster::Role;
use replab::model::command::Rate;
use replab::model::condition::Condition;
use replab::model::journal::{Tone, Who};
use replab::model::ledger::{Ids, or};
use replab::model::msg::{Origin, Topology, WriterPlan};
use replab::model::standing::Link;
use replab::model::{Model, Stamp};
use replab::runtime::Runtime;
use serde::{Deserialize, Serialize};

use super::faults::{Fault, HEAL, Mode, Shown, Sight, Strike, fault, mode};
use crate::common::house::Ground;
use crate::common::stage::Stage;
use crate::common::way::Way;

const CLIENTS: u32 = 4;
/// Sender and receiver timeouts of the lab: what a silent standby costs under FIRST.
const TIMEOUT: &str = "3s";
/// The clients are watched for so long, and where commits stand still though the primary is well, until they go on.
const WINDOW: Duration = Duration::from_millis(1_500);
/// But no longer than this.
const PATIENCE: Duration = Duration::from_secs(8);
/// A silence of the acknowledgements that is more than a busy machine.
const GAP_MS: u64 = 1_200;
/// After what mends it everything must be as before within this, a new base backup included; on a busy machine, that is: the full
/// set has a machine to itself and allows [`MENDED_MS`].
const MENDED: Duration = Duration::from_secs(30);
/// What the full set allows.
pub const MENDED_MS: u64 = 10_000;
/// Nothing may hang: a whole cell.
const WHOLE: Duration = Duration::from_secs(90);

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    pub fault: String,
    pub mode: String,
    pub ground: String,
    pub sight: Sight,
    /// The longest time without an acknowledgement while the clients were watched.
    pub silence_ms: u64,
    /// Acknowledged in all.
    pub acked: u64,
    /// Writes without an answer.
    pub unknown: u64,
    /// Acknowledged and not on the primary afterwards: as the lab says, and as `psql` counts.
    pub lost: u64,
    /// What the lab said before it was mended, numbers left out.
    pub said: Vec<String>,
    /// From the fault to its being shown.
    pub shown_ms: u64,
    /// From the first mending command to streaming standbys and acknowledged writes.
    pub mended_ms: u64,
}

pub fn ground_name(ground: Ground) -> String {
    match ground {
        Ground::Process => "processes".to_owned(),
        Ground::Docker(major) => format!("docker-{major}"),
    }
}

/// Plays one, on a lab of its own; None where this ground hasn't what the fault needs.
pub async fn play(ground: Ground, fault_key: &str, mode_name: &str) -> Option<Cell> {
    let row = fault(fault_key);
    let topology = || {
        let mut topology = Topology::primary_with(2);
        for setting in ["wal_sender_timeout", "wal_receiver_timeout"] {
            topology.settings.insert(setting.to_owned(), TIMEOUT.to_owned());
        }
        topology
    };
    let writer = || WriterPlan { clients: CLIENTS, rate: Rate::PerSecond(200), ..WriterPlan::default() };
    let mut on = On { ground, row, mode: mode_name, way: None, client: RefCell::default(), sessions: None };
    match (ground, &row.strike) {
        (Ground::Process, Strike::Engine) => None,
        (Ground::Process, _) => {
            let stage = Stage::of_processes(topology(), writer()).await?;
            Some(in_time(on.through(stage)).await)
        }
        (Ground::Docker(major), Strike::Engine) => {
            let (stage, way) = Stage::in_docker_by_a_way(major, topology(), writer()).await?;
            on.way = Some(way);
            Some(in_time(on.through(stage)).await)
        }
        (Ground::Docker(major), _) => {
            let stage = Stage::in_docker(major, topology(), writer()).await?;
            Some(in_time(on.through(stage)).await)
        }
    }
}

async fn in_time(cell: impl Future<Output = Cell>) -> Cell {
    tokio::time::timeout(WHOLE, cell).await.expect("something hangs")
}

/// A cell as it is played.
struct On<'a> {
    ground: Ground,
    row: &'static Fault,
    mode: &'a str,
    way: Option<Way>,
    client: RefCell<Client>,
    /// The clients' sessions before a backend was killed.
    sessions: Option<String>,
}

const SESSIONS: &str =
    "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE application_name LIKE 'replab writer%'";

impl On<'_> {
    async fn through<R: Runtime>(&mut self, mut stage: Stage<R>) -> Cell {
        let (index, mode) = mode(self.mode);
        self.settle(&mut stage, mode).await;
        let began = stage.model().now;
        let shown_ms = self.strike(&mut stage).await;
        let sight = self.watch(&mut stage).await;
        let client = self.client.take();

        let said = said(stage.model(), began);
        let mended_ms = self.mend(&mut stage).await;
        let lost = self.judge(&mut stage, mode).await;
        let counts = stage.model().ledger.counts();
        let cell = Cell {
            fault: self.row.key.to_owned(),
            mode: mode.name.to_owned(),
            ground: ground_name(self.ground),
            sight,
            silence_ms: client.silence_ms,
            acked: counts.acked,
            unknown: counts.unknown,
            lost,
            said,
            shown_ms,
            mended_ms,
        };
        println!("{cell:?}");
        assert_eq!(sight, self.row.sights[index], "{}, {}: {cell:#?}", self.row.key, mode.name);
        self.said_what_is_so(&cell, mode);
        let log = &stage.model().fault_log;
        assert!(log.iter().any(|span| span.from >= began), "no fault for the report: {log:#?}");
        stage.close().await;
        cell
    }

    /// What had to be said was said; and of commits that wait, only where some can.
    fn said_what_is_so(&self, cell: &Cell, mode: &Mode) {
        let said = |words: &str| cell.said.iter().any(|text| text.contains(words));
        for words in self.row.says {
            assert!(said(words), "{}, {}: \"{words}\" isn't said: {:#?}", cell.fault, mode.name, cell.said);
        }
        let waits = said("wait for a synchronous standby");
        assert!(mode.promises || !waits, "{}, {}: {:#?}", cell.fault, mode.name, cell.said);
        // Of a primary that is frozen or away itself nothing can be known.
        let known = self.row.mend == HEAL || self.row.loses;
        let must = known && mode.promises && matches!(cell.sight, Sight::Waits | Sight::Pauses);
        assert!(waits || !must, "{}, {}: {:#?}", cell.fault, mode.name, cell.said);
    }

    /// The mode is in force, and the lab is well.
    async fn settle<R: Runtime>(&self, stage: &mut Stage<R>, mode: &Mode) {
        for command in mode.commands {
            stage.command(command).await;
        }
        if matches!(self.row.strike, Strike::Slot) {
            stage.command("set wal_keep_size 0").await;
            stage.command("set max_slot_wal_keep_size 16MB").await;
        }
        // The heartbeat must have come for a while before silence means anything.
        stage.until_so("the heart to be warm", |m| m.now.ms_since(m.heart_since) > 1_600).await;
        all_is_well(stage, mode.promises || mode.name == "local").await;
    }

    /// Brings the fault; how long it took from its last act to its being shown.
    async fn strike<R: Runtime>(&mut self, stage: &mut Stage<R>) -> u64 {
        if matches!(self.row.strike, Strike::Slot) {
            fill_up(stage).await;
        }
        if matches!(self.row.strike, Strike::Backend) {
            self.sessions = Some(stage.psql("p", SESSIONS).await);
        }
        self.client = RefCell::new(Client::new(stage.model()));
        let began = Instant::now();
        match &self.row.strike {
            Strike::Commands(commands) => {
                for command in *commands {
                    stage.session.ask(command.parse().unwrap(), Origin::You);
                }
            }
            Strike::Backend => {
                let sessions = self.sessions.as_deref().unwrap_or_default();
                stage.kill_process_of("p", sessions.split(' ').next().unwrap().parse().unwrap()).await;
            }
            Strike::Slot => {
                let look = |m: &Model| self.client.borrow_mut().look(m);
                drop(stage.psql_while("p", "CHECKPOINT", look).await.unwrap());
            }
            Strike::Engine => self.way.as_mut().expect("a way").cut(),
        }
        let condition: Option<Condition> = match self.row.shown {
            Shown::Holds(text) => Some(text.parse().unwrap()),
            _ => None,
        };
        let is_shown = |m: &Model| match (&self.row.shown, &condition) {
            (Shown::Said(part), _) => m.journal.entries().any(|e| e.text.contains(part)),
            (Shown::Engine, _) => m.engine_down.is_some(),
            (Shown::Holds(_), condition) => condition.as_ref().is_some_and(|c| c.check(m).0),
        };
        let look = |m: &Model| {
            self.client.borrow_mut().look(m);
            is_shown(m)
        };
        stage.until_so("the fault to be shown", look).await;
        let took = began.elapsed();
        stage.until_so("the act to end", |m| m.ops.is_empty()).await;
        took.as_millis() as u64
    }

    /// Looks at the clients for a while.
    async fn watch<R: Runtime>(&self, stage: &mut Stage<R>) -> Sight {
        let look = |m: &Model| self.client.borrow_mut().look(m);
        stage.during(tokio::time::sleep(WINDOW), look).await;
        // Where the primary itself is well and a standby is left, PostgreSQL gives up on the silent one in the end.
        let hopeless = self.row.mend.first() == Some(&"failover");
        let end = Instant::now() + PATIENCE;
        while !hopeless && !self.client.borrow().is_served() && Instant::now() < end {
            stage.during(tokio::time::sleep(Duration::from_millis(20)), look).await;
        }
        let mut sight = self.client.borrow().sight();
        if let Some(before) = &self.sessions
            && matches!(sight, Sight::GoesOn | Sight::Pauses)
            && stage.psql("p", SESSIONS).await != *before
        {
            // So short that the writer's reports didn't catch it.
            sight = Sight::ComesBack;
        }
        sight
    }

    async fn mend<R: Runtime>(&mut self, stage: &mut Stage<R>) -> u64 {
        let began = Instant::now();
        if let Some(way) = &mut self.way {
            way.open(true);
            stage.until_so("the engine", |m| m.engine_down.is_none()).await;
        }
        for command in self.row.mend {
            stage.command(command).await;
        }
        all_is_well(stage, false).await;
        let took = began.elapsed();
        assert!(took < MENDED, "mended only after {} ms\n{}", took.as_millis(), stage.journal());
        assert_eq!(stage.model().faults(), [], "nothing is left of it");
        took.as_millis() as u64
    }

    /// Everything is read: the verdict is sound, and the lab's figure is the reader's.
    async fn judge<R: Runtime>(&self, stage: &mut Stage<R>, mode: &Mode) -> u64 {
        stage.rest().await;
        stage.command("verify").await;
        let judged = stage.model().verification.clone().unwrap();
        assert_eq!(judged.verdict.word(), "sound", "{:?}\n{}", judged.verdict, stage.journal());
        let acked = flat(&or(&stage.model().ledger.acked, &stage.model().ledger.warned));
        let primary = stage.model().primary.clone().unwrap();
        let text = stage.psql(primary.as_str(), "SELECT client, seq FROM replab.writes").await;
        let there: HashSet<(u32, u64)> = text.lines().map(id).collect();
        let missing = acked.iter().filter(|id| !there.contains(*id)).count() as u64;
        assert_eq!(judged.lost, missing, "the lab and the reader differ");
        assert!(!mode.promises || judged.lost == 0, "{} lost under {}", judged.lost, mode.name);
        assert!(mode.promises || !self.row.loses || judged.lost > 0, "acknowledged behind a cut, and nothing is lost");
        judged.lost
    }
}

fn id(line: &str) -> (u32, u64) {
    let (client, seq) = line.split_once('|').unwrap();
    (client.parse().unwrap(), seq.parse().unwrap())
}

fn flat(ids: &Ids) -> Vec<(u32, u64)> {
    let one = |(client, set): (&u32, &replab::model::ranges::Ranges)| {
        let client = *client;
        set.as_slice().iter().flat_map(move |(a, b)| (*a..=*b).map(move |seq| (client, seq))).collect::<Vec<_>>()
    };
    ids.iter().flat_map(one).collect()
}

/// Every standby streams from the primary (and counts, where a rule is to be in force), and writes are acknowledged.
async fn all_is_well<R: Runtime>(stage: &mut Stage<R>, counts: bool) {
    let streams = move |m: &Model| {
        let primary = m.primary.clone();
        let ladder = m.ladder();
        let one = |r: &replab::model::standing::Rung| {
            r.upstream == primary
                && r.link == Link::Connected("streaming".into())
                && (!counts || r.sync_state != "async")
        };
        ladder.len() == 2 && ladder.iter().all(one)
    };
    stage.until_so("both standbys to stream", streams).await;
    let is_primary = |m: &Model| m.primary_node().is_some_and(|n| n.answers() && n.role() == Some(Role::Primary));
    stage.until_so("the primary to answer", is_primary).await;
    let before = stage.model().ledger.counts().acked;
    stage.until_so("acknowledged writes", |m| m.ledger.counts().acked > before + 60).await;
}

/// WAL beyond the limit is written while s1 is away: at the next checkpoint its slot is lost.
async fn fill_up<R: Runtime>(stage: &mut Stage<R>) {
    stage.command("stop s1").await;
    let wal =
        "SELECT count(pg_logical_emit_message(false, 'replab', repeat('x', 1000000))) FROM generate_series(1, 24)";
    stage.psql("p", wal).await;
}

/// What the lab said since then, that something is amiss: numbers left out, so that two runs say the same.
fn said(model: &Model, since: Stamp) -> Vec<String> {
    let amiss = |e: &&replab::model::journal::Entry| {
        e.at >= since && e.who == Who::Lab && matches!(e.tone, Tone::Warn | Tone::Bad | Tone::Good)
    };
    let mut said: Vec<String> = Vec::new();
    for text in model.journal.entries().filter(amiss).map(|e| without_numbers(&e.text)) {
        if !said.contains(&text) {
            said.push(text);
        }
    }
    said
}

/// Numbers that stand alone become an ellipsis; those of names stay.
fn without_numbers(text: &str) -> String {
    let number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    text.split(' ').map(|word| if number(word) { "…" } else { word }).collect::<Vec<_>>().join(" ")
}

/// The clients' side of it.
struct Client {
    unknown_before: u64,
    acked: u64,
    at: Instant,
    silence_ms: u64,
    /// Some write got no answer. When the lab takes the clients to another way, that alone is no end of a connection.
    unanswered: bool,
    /// A client can't connect.
    trouble: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self::new(&Model::default())
    }
}

impl Client {
    fn new(model: &Model) -> Self {
        let counts = model.ledger.counts();
        let (unknown_before, acked) = (counts.unknown, counts.acked);
        Self { unknown_before, acked, at: Instant::now(), silence_ms: 0, unanswered: false, trouble: false }
    }

    fn look(&mut self, model: &Model) {
        let counts = model.ledger.counts();
        self.unanswered |= counts.unknown > self.unknown_before;
        self.trouble |= model.writer.pulse.trouble.is_some();
        self.silence_ms = self.silence_ms.max(self.at.elapsed().as_millis() as u64);
        if counts.acked > self.acked {
            (self.acked, self.at) = (counts.acked, Instant::now());
        }
    }

    /// Whether acknowledgements come now.
    fn is_served(&self) -> bool {
        self.at.elapsed() < Duration::from_millis(300)
    }

    fn sight(&self) -> Sight {
        match self.is_served() {
            false if self.trouble => Sight::Ends,
            false => Sight::Waits,
            true if self.trouble || self.unanswered => Sight::ComesBack,
            true if self.silence_ms > GAP_MS => Sight::Pauses,
            true => Sight::GoesOn,
        }
    }
}
