//! The writers' thread: carries the plan to the clients, makes and retires them, and sends their books. Knows no protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::books::Books;
use super::pace::{Extra, Pace};
use super::{WriterEvent, WriterPlan, client};
use crate::pg::Secret;

/// Books are sent this often while there are any.
const FLUSH_EVERY: Duration = Duration::from_millis(20);
/// While something waits and nothing is new, ages are looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the clients are told: the plan, and what ends the connections made under its target.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) plan: WriterPlan,
    /// Cancelled when the target is another one, or at the end.
    pub(super) until: CancellationToken,
}

/// What all clients share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) password: Secret,
    pub(super) books: Books,
    pub(super) pace: Pace,
    pub(super) extra: Arc<Extra>,
    pub(super) end: CancellationToken,
}

/// The thread's work.
#[derive(Debug)]
pub(super) struct Engine {
    desk: Arc<Desk>,
    plan: watch::Receiver<WriterPlan>,
    events: mpsc::Sender<WriterEvent>,
    next_client: u32,
}

impl Engine {
    pub(super) fn new(
        password: Secret,
        first_client: u32,
        plan: watch::Receiver<WriterPlan>,
        extra: Arc<Extra>,
        events: mpsc::Sender<WriterEvent>,
    ) -> Self {
        let now = Instant::now();
        let (books, pace, end) = (Books::new(first_client, now), Pace::new(now), CancellationToken::new());
        let desk = Arc::new(Desk { password, books, pace, extra, end });
        Self { desk, plan, events, next_client: first_client }
    }

    /// What it shares with its clients.
    pub(super) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    /// Runs until the plan's sender is dropped or nobody takes the events; then ends the clients and sends what is left.
    pub(super) async fn run(mut self) {
        let events = self.events.clone();
        let desk = Arc::clone(&self.desk);
        let mut clients = JoinSet::new();
        let mut flushing = std::pin::pin!(flush(&desk, &events));
        let led = tokio::select! {
            () = self.lead(&mut clients) => true,
            () = &mut flushing => false,
        };
        desk.end.cancel();
        if led {
            // Not dropped: it may be in the middle of sending books.
            flushing.await;
        }
        while clients.join_next().await.is_some() {}
        send(&desk.books, &events).await;
    }

    /// Follows the plan.
    async fn lead(&mut self, clients: &mut JoinSet<()>) {
        let plan = self.plan.borrow_and_update().clone();
        let (orders, _) = watch::channel(Orders { plan, until: self.desk.end.child_token() });
        let mut staff: Vec<Arc<AtomicBool>> = Vec::new();
        loop {
            self.staff(&mut staff, clients, &orders);
            if self.plan.changed().await.is_err() {
                return;
            }
            let plan = self.plan.borrow_and_update().clone();
            self.order(&orders, plan);
            while clients.try_join_next().is_some() {}
        }
    }

    /// Tells the clients; another target ends their connections.
    fn order(&self, orders: &watch::Sender<Orders>, plan: WriterPlan) {
        let until = {
            let now = orders.borrow();
            if now.plan.target != plan.target {
                self.desk.books.begin_at(&plan.name);
            }
            let pauses = |plan: &WriterPlan| (plan.paused, plan.held);
            if now.plan.rate != plan.rate || pauses(&now.plan) != pauses(&plan) {
                self.desk.pace.restart(Instant::now());
            }
            if now.plan.target == plan.target {
                now.until.clone()
            } else {
                now.until.cancel();
                self.desk.end.child_token()
            }
        };
        orders.send_replace(Orders { plan, until });
    }

    /// Makes the clients that are missing and retires those that are too many, the youngest first. A retired one
    /// finishes its write.
    fn staff(&mut self, staff: &mut Vec<Arc<AtomicBool>>, clients: &mut JoinSet<()>, orders: &watch::Sender<Orders>) {
        let planned = orders.borrow().plan.clients as usize;
        let wanted = if planned == 0 && self.desk.extra.some() { 1 } else { planned };
        for retired in staff.drain(wanted.min(staff.len())..) {
            retired.store(true, Ordering::Relaxed);
        }
        while staff.len() < wanted {
            let retired = Arc::new(AtomicBool::new(false));
            let client =
                client::Client::new(self.next_client, Arc::clone(&self.desk), orders.subscribe(), Arc::clone(&retired));
            self.next_client += 1;
            clients.spawn(client.run());
            staff.push(retired);
        }
        // The retired ones look up.
        orders.send_modify(|_| {});
    }
}

/// Sends the books: at once when something is new after a quiet time, then every 20 ms. Returns at the end, or when nobody
/// takes them.
async fn flush(desk: &Desk, events: &mpsc::Sender<WriterEvent>) {
    let mut more = false;
    while !desk.end.is_cancelled() {
        tokio::select! {
            () = desk.books.news.notified() => {}
            () = sleep(LOOK_EVERY), if more => {}
            () = events.closed() => return,
            () = desk.end.cancelled() => return,
        }
        match send(&desk.books, events).await {
            Some(later) => more = later,
            None => return,
        }
        tokio::select! {
            () = sleep(FLUSH_EVERY) => {}
            () = desk.books.first.notified() => {}
        }
    }
}

/// Sends what is due. None: nobody takes it. Some(true): something will be due later without more news.
async fn send(books: &Books, events: &mpsc::Sender<WriterEvent>) -> Option<bool> {
    let (due, more) = books.take(Instant::now());
    for event in due {
        events.send(event).await.ok()?;
    }
    Some(more)
}
