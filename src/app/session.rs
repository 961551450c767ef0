//! One lab as it runs: messages in, the model changed, effects carried out. The same for the screen and for plain lines.

use std::future::{Future, pending};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use color_eyre::eyre::{Result, WrapErr};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use super::setup;
use super::socket::{Asked, Desk};
use crate::drive::{self, Lab};
use crate::model::command::Command;
use crate::model::msg::{Effect, Msg, Opening, Origin, WriterPlan};
use crate::model::{Model, NodeName, Stage, Stamp, update};
use crate::observe;
use crate::pg::secret::TemplateKey;
use crate::runtime::Runtime;

/// Messages that may wait to be taken in; beyond, those who send them wait.
const INBOX: usize = 4_096;
/// How often time passes for the model.
pub const TICK: Duration = Duration::from_millis(50);

/// Time passes for the model much more often than this: where it didn't, replab itself stood still.
const STOOD_STILL_MS: u64 = 2_000;

/// Something for the writers, in order.
#[derive(Debug)]
enum Order {
    Plan(WriterPlan),
    Burst(u32),
}

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// The lab is over.
    Nothing,
    /// Nothing but what comes all the time.
    Routine,
    /// Something else too.
    News,
}

/// A running lab.
#[derive(Debug)]
pub struct Session<R: Runtime> {
    /// What the lab knows.
    pub model: Model,
    /// What the adapters share.
    pub lab: Arc<Lab<R>>,
    inbox: mpsc::Receiver<Msg>,
    began: Instant,
    /// When the last message was taken in.
    taken: Stamp,
    orders: mpsc::UnboundedSender<Order>,
    heart: Option<CancellationToken>,
    detector: Option<CancellationToken>,
    /// What is written down, if anything is.
    pub recorder: Option<Recorder>,
    /// The socket, where other programs of this user come in; None while nobody can.
    desk: Option<Desk>,
}

impl<R: Runtime> Session<R> {
    /// Opens a lab: from here on nodes are made.
    pub fn open(runtime: R, key: TemplateKey, opening: Opening, recorder: Option<Recorder>) -> Result<Self> {
        let (out, inbox) = mpsc::channel(INBOX);
        let lab = Lab::new(runtime, opening.lab.clone(), key, out.clone()).wrap_err("can't make passwords")?;
        lab.start_writers().wrap_err("can't start the writers")?;
        let lab = Arc::new(lab);
        observe::follow(&lab);
        observe::room(&lab);
        let (orders, taken) = mpsc::unbounded_channel();
        drive::count(&lab);
        tokio::spawn(obey(Arc::clone(&lab), taken));
        let mut session = Self {
            model: Model::default(),
            lab,
            inbox,
            began: Instant::now(),
            taken: Stamp(0),
            orders,
            heart: None,
            detector: None,
            recorder,
            desk: None,
        };
        session.take(Msg::Open(Box::new(opening)));
        Ok(session)
    }

    /// Opens the lab's socket.
    pub fn listen(&mut self) -> Result<()> {
        self.desk = Some(Desk::open(&setup::sockets()?, &self.lab.id, self.now())?);
        Ok(())
    }

    /// The moment it is in the lab's life.
    pub fn now(&self) -> Stamp {
        Stamp(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Takes in one message and sets its effects going.
    pub fn take(&mut self, msg: Msg) {
        let at = self.now();
        let still = at.ms_since(std::mem::replace(&mut self.taken, at));
        if still >= STOOD_STILL_MS && self.model.stage == Stage::Live {
            self.take_in(at, Msg::StoodStill(still));
        }
        self.take_in(at, msg);
    }

    fn take_in(&mut self, at: Stamp, msg: Msg) {
        if let Some(recorder) = &mut self.recorder {
            recorder.take(&self.model, at, &msg);
        }
        // Writes come by thousands, and tell nobody anything; time does.
        let routine = msg.is_routine() && msg != Msg::Tick;
        for effect in update(&mut self.model, at, msg) {
            self.carry_out(effect);
        }
        if let Some(desk) = self.desk.as_mut().filter(|_| !routine) {
            desk.settle(&self.model);
            desk.tell(&self.model);
        }
    }

    /// A command of the person or of the lab itself.
    pub fn ask(&mut self, command: Command, origin: Origin) {
        self.take(Msg::Command(command, origin));
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Run(id, act) => drop(tokio::spawn(drive::run(Arc::clone(&self.lab), id, act))),
            Effect::Writer(plan) => drop(self.orders.send(Order::Plan(plan))),
            Effect::Burst(n) => drop(self.orders.send(Order::Burst(n))),
            Effect::Heartbeat(node) => self.beat(node),
            Effect::CloseSql => drive::close_sql(&self.lab),
            Effect::Answer(number, answer) => {
                if let Some(desk) = &mut self.desk {
                    desk.answered(number, answer);
                }
            }
            Effect::Probe(every_ms) => self.probe(every_ms.map(Duration::from_millis)),
        }
    }

    fn probe(&mut self, every: Option<Duration>) {
        if let Some(old) = self.detector.take() {
            old.cancel();
        }
        if let Some(every) = every {
            let stop = self.lab.end.child_token();
            tokio::spawn(drive::probe_all(Arc::clone(&self.lab), every, stop.clone()));
            self.detector = Some(stop);
        }
    }

    fn beat(&mut self, node: Option<NodeName>) {
        if let Some(old) = self.heart.take() {
            old.cancel();
        }
        if let Some(control) = node.and_then(|n| self.lab.control(&n).ok()) {
            let stop = self.lab.end.child_token();
            observe::beat(control, stop.clone());
            self.heart = Some(stop);
        }
    }

    /// Waits for messages and takes in all that are there.
    pub async fn next(&mut self) -> Came {
        const AT_ONCE: usize = 256;
        let mut messages = Vec::with_capacity(AT_ONCE);
        let count = tokio::select! {
            count = self.inbox.recv_many(&mut messages, AT_ONCE) => count,
            asked = asked(&mut self.desk) => {
                self.serve(asked);
                return Came::News;
            }
        };
        let news = messages.iter().any(|msg| !msg.is_routine());
        for msg in messages {
            self.take(msg);
        }
        match (count, news) {
            (0, _) => Came::Nothing,
            (_, false) => Came::Routine,
            (_, true) => Came::News,
        }
    }

    /// A command that came in by the socket.
    fn serve(&mut self, asked: Asked) {
        let Some(desk) = &mut self.desk else { return };
        let (number, command) = desk.note(asked, &self.model);
        self.ask(command, Origin::Outside(number));
    }

    /// The recording comes to its end; tells what became of one that was asked for and isn't whole.
    pub fn end_recording(&mut self) -> Option<String> {
        self.recorder.take().and_then(Recorder::finish)
    }

    /// Ends the lab and removes everything of it.
    pub async fn close(self) -> Result<()> {
        let lab = Arc::clone(&self.lab);
        self.drain_until(async move { drive::close(&lab).await }).await
    }

    /// Ends the lab but leaves its servers; gives the lines that say how to reach and how to remove them.
    pub async fn keep(self, folder: PathBuf) -> Result<Vec<String>> {
        let lab = Arc::clone(&self.lab);
        self.drain_until(async move { drive::keep(&lab, &folder).await }).await
    }

    /// Empties the inbox until `work` is done, so that nobody waits for room in it. What the nodes say while they are taken down is
    /// no part of the lab's story: the recording ends here, as the reports do.
    async fn drain_until<T: Send + 'static>(
        mut self,
        work: impl Future<Output = Result<T, drive::Failure>> + Send + 'static,
    ) -> Result<T> {
        self.desk = None;
        self.recorder = None;
        let closing = tokio::spawn(work);
        tokio::pin!(closing);
        loop {
            tokio::select! {
                done = &mut closing => {
                    return done.wrap_err("closing the lab")?.map_err(|e| color_eyre::eyre::eyre!("{e}"));
                }
                Some(msg) = self.inbox.recv() => self.take(msg),
            }
        }
    }
}

/// The next command that comes in by the socket.
async fn asked(desk: &mut Option<Desk>) -> Asked {
    match desk {
        Some(desk) => desk.next().await,
        None => pending().await,
    }
}

/// Passes orders on to the writers, with the target's address of the moment.
async fn obey<R: Runtime>(lab: Arc<Lab<R>>, mut orders: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Burst(n) => lab.burst(n),
            Order::Plan(plan) => lab.order(&plan).await,
        }
    }
}
