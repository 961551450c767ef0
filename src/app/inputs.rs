//! What the person does at the terminal, read by a thread of its own. Knows no screen.
//!
//! crossterm never comes back from reading a terminal that is gone (0.29: it takes the end of the file for nothing yet, and tries
//! again at once). On the lab's own thread that would be the end of everything, signals too; here only this thread stays behind.
//!
//! Keys that come faster than anybody types are no keys: what a terminal pastes without marking it, and what follows an escape at once,
//! as Alt with a key does.

use std::collections::VecDeque;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Whoever reads is ready long before this, unless the terminal is gone.
const READY_LIMIT: Duration = Duration::from_secs(1);
/// Two printable keys closer together than this were not typed.
const TOGETHER: Duration = Duration::from_millis(6);
/// Pasted text may come in pieces: what follows it so soon belongs to it.
const PIECES: Duration = Duration::from_millis(100);
/// A key that follows an escape so soon belongs to it.
const QUICK: Duration = Duration::from_millis(50);

/// Something that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// As crossterm has it.
    Event(Event),
    /// Printable keys that came all at once.
    Burst(String),
}

/// The terminal's events, one each time it is asked: what comes when nobody asks stays with crossterm, for the next screen.
pub struct Inputs {
    ask: mpsc::Sender<()>,
    told: mpsc::Receiver<io::Result<Typed>>,
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
    pub async fn next(&mut self) -> Option<Typed> {
        if !self.asked {
            self.ask.send(()).await.ok()?;
            self.asked = true;
        }
        let event = self.told.recv().await;
        self.asked = false;
        event?.ok()
    }
}

async fn read(mut events: EventStream, mut asks: mpsc::Receiver<()>, tell: mpsc::Sender<io::Result<Typed>>) {
    let mut hands = Hands::default();
    while asks.recv().await.is_some() {
        let typed = loop {
            if let Some(typed) = hands.ready.pop_front() {
                break typed;
            }
            let Some(event) = events.next().await else { return };
            let mut together = Vec::new();
            let mut last = event;
            // Only what is printable may be the beginning of more.
            while let Ok(event) = &last
                && printable(event).is_some()
            {
                match timeout(TOGETHER, events.next()).await {
                    Ok(Some(next)) => together.push(std::mem::replace(&mut last, next)),
                    Ok(None) | Err(_) => break,
                }
            }
            together.push(last);
            hands.take(together, Instant::now());
        };
        if tell.send(typed).await.is_err() {
            return;
        }
    }
}

/// What comes in, told apart by when it came.
#[derive(Default)]
struct Hands {
    ready: VecDeque<io::Result<Typed>>,
    escaped: Option<Instant>,
    burst: Option<Instant>,
}

impl Hands {
    /// Takes in events that came together: printable keys, all but perhaps the last.
    fn take(&mut self, events: Vec<io::Result<Event>>, now: Instant) {
        let text: String = events.iter().flatten().map_while(printable).collect();
        let mut events = events.into_iter();
        let soon = |since: Option<Instant>, limit| since.is_some_and(|at| now.saturating_duration_since(at) < limit);
        let mut letters = text.chars();
        let first = letters.next();
        // A key that is held down repeats itself.
        let many = letters.any(|c| Some(c) != first);
        if first.is_some() && soon(self.escaped, QUICK) {
            events.nth(text.chars().count() - 1);
            self.escaped = Some(now);
            let alt = KeyEvent::new(KeyCode::Null, KeyModifiers::ALT);
            self.ready.push_back(Ok(Typed::Event(Event::Key(alt))));
        } else if many || (first.is_some() && soon(self.burst, PIECES)) {
            events.nth(text.chars().count() - 1);
            self.burst = Some(now);
            self.ready.push_back(Ok(Typed::Burst(text)));
        }
        for event in events {
            if let Ok(Event::Key(KeyEvent { code: KeyCode::Esc, .. })) = &event {
                self.escaped = Some(now);
            }
            self.ready.push_back(event.map(Typed::Event));
        }
    }
}

/// The character that this key types, if it is one that text may hold.
fn printable(event: &Event) -> Option<char> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release || !(key.modifiers - KeyModifiers::SHIFT).is_empty() {
        return None;
    }
    match key.code {
        KeyCode::Char(c) => Some(c),
        KeyCode::Enter => Some('\n'),
        KeyCode::Tab => Some('\t'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: KeyCode) -> Event {
        Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    /// What becomes of keys: each group came together, so many milliseconds after the first.
    fn told(groups: &[(u64, &str)]) -> Vec<String> {
        let (mut hands, begun) = (Hands::default(), Instant::now());
        for (ms, keys) in groups {
            let events = keys.chars().map(|c| {
                Ok(key(match c {
                    '\x1b' => KeyCode::Esc,
                    '\n' => KeyCode::Enter,
                    '<' => KeyCode::Left,
                    c => KeyCode::Char(c),
                }))
            });
            hands.take(events.collect(), begun + Duration::from_millis(*ms));
        }
        let told = |typed: io::Result<Typed>| match typed.unwrap() {
            Typed::Burst(text) => format!("burst {text:?}"),
            Typed::Event(Event::Key(key)) if key.modifiers == KeyModifiers::ALT => "alt".to_owned(),
            Typed::Event(Event::Key(key)) => key.code.to_string(),
            Typed::Event(other) => format!("{other:?}"),
        };
        hands.ready.into_iter().map(told).collect()
    }

    #[test]
    fn keys_are_told_from_text_by_their_haste() {
        assert_eq!(told(&[(0, "k"), (90, "f")]), ["k", "f"]);
        assert_eq!(told(&[(0, "kf")]), ["burst \"kf\""]);
        assert_eq!(told(&[(0, "kill p\n"), (20, "k"), (300, "f")]), ["burst \"kill p\\n\"", "burst \"k\"", "f"]);
        assert_eq!(told(&[(0, "kf<"), (300, "k")]), ["burst \"kf\"", "Left", "k"]);
        // A key that is held down.
        assert_eq!(told(&[(0, "++"), (30, "+")]), ["+", "+", "+"]);
        // An escape and a key, as Alt with the key sends them; or a sequence in two pieces.
        assert_eq!(told(&[(0, "\x1b"), (3, "k"), (200, "k")]), ["Esc", "alt", "k"]);
        assert_eq!(told(&[(0, "\x1b"), (3, "[A"), (200, "k")]), ["Esc", "alt", "k"]);
        assert_eq!(told(&[(0, "\x1b"), (60, "k")]), ["Esc", "k"]);
    }
}
