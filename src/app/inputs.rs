//! What the person does at the terminal, read by a thread of its own. Knows no screen.
//!
//! crossterm never comes back from reading a terminal that is gone (0.29: it takes the end of the file for nothing yet, and tries
//! again at once). On the lab's own thread that would be the end of everything, signals too; here only this thread stays behind.

use std::io;
use std::thread;
use std::time::Duration;

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Whoever reads is ready long before this, unless the terminal is gone.
const READY_LIMIT: Duration = Duration::from_secs(1);

/// The terminal's events, one each time it is asked: what comes when nobody asks stays with crossterm, for the next screen.
pub struct Inputs {
    ask: mpsc::Sender<()>,
    told: mpsc::Receiver<io::Result<Event>>,
    /// An event was asked for and hasn't come.
    asked: bool,
    _reads: DropGuard,
}

impl Inputs {
    /// Begins to read: a change of the terminal's size is noticed from here on. Inside tokio only.
    pub fn begin() -> Self {
        let (ask, asks) = mpsc::channel(1);
        let (tell, told) = mpsc::channel(1);
        let (stop, here) = (CancellationToken::new(), Handle::current());
        let over = stop.clone();
        let (ready, is_ready) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let events = EventStream::new();
            let _ = ready.send(());
            here.block_on(over.run_until_cancelled(read(events, asks, tell)))
        });
        let _ = is_ready.recv_timeout(READY_LIMIT);
        Self { ask, told, asked: false, _reads: stop.drop_guard() }
    }

    /// The next event; None when the terminal can't be read. May be given up and asked again: nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        if !self.asked {
            self.ask.send(()).await.ok()?;
            self.asked = true;
        }
        let event = self.told.recv().await;
        self.asked = false;
        event?.ok()
    }
}

async fn read(mut events: EventStream, mut asks: mpsc::Receiver<()>, tell: mpsc::Sender<io::Result<Event>>) {
    while asks.recv().await.is_some() {
        let Some(event) = events.next().await else { return };
        if tell.send(event).await.is_err() {
            return;
        }
    }
}
