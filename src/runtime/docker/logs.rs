//! Follows the server logs of containers: batches, thinned when they come in floods. Knows containers and names only.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::text;
use crate::model::NodeName;
use crate::model::cluster::LogLine;
use crate::runtime::RuntimeEvent;

/// Lines that come within this after the first go together.
const BATCH_TIME: Duration = Duration::from_millis(100);
/// More lines than this in a batch are counted only.
const BATCH_LINES: usize = 200;

/// One follower for each container.
#[derive(Debug)]
pub(super) struct Followers {
    docker: Docker,
    tell: mpsc::Sender<RuntimeEvent>,
    all: HashMap<String, (Arc<Notify>, DropGuard)>,
}

impl Followers {
    /// None yet.
    pub(super) fn new(docker: Docker, tell: mpsc::Sender<RuntimeEvent>) -> Self {
        Self { docker, tell, all: HashMap::new() }
    }

    /// The container was started: follow it from where the last look ended.
    pub(super) fn started(&mut self, node: &NodeName, id: &str) {
        let (docker, tell) = (&self.docker, &self.tell);
        let (wake, _) = self.all.entry(id.to_owned()).or_insert_with(|| {
            let (wake, cancel) = (Arc::new(Notify::new()), CancellationToken::new());
            let follower = Follower {
                docker: docker.clone(),
                id: id.to_owned(),
                node: node.clone(),
                tell: tell.clone(),
                seen: Seen::default(),
            };
            tokio::spawn(cancel.clone().run_until_cancelled_owned(follower.run(Arc::clone(&wake))));
            (wake, cancel.drop_guard())
        });
        wake.notify_one();
    }

    /// The container is gone.
    pub(super) fn gone(&mut self, id: &str) {
        self.all.remove(id);
    }
}

#[derive(Debug)]
struct Follower {
    docker: Docker,
    id: String,
    node: NodeName,
    tell: mpsc::Sender<RuntimeEvent>,
    seen: Seen,
}

/// Which lines were seen. The engine's `since` counts whole seconds only, so the last ones come again; several lines may bear the same
/// stamp, which some engines tell in whole seconds as well.
#[derive(Debug, Default)]
struct Seen {
    /// The stamp of the last line.
    stamp: Timestamp,
    /// How many lines with it were seen.
    lines: usize,
    /// How many of them came again since the stream began.
    again: usize,
}

impl Seen {
    /// Takes a line's stamp in; whether the line is new.
    fn is_new(&mut self, stamp: Timestamp) -> bool {
        match stamp.cmp(&self.stamp) {
            Ordering::Less => return false,
            Ordering::Equal if self.again < self.lines => {
                self.again += 1;
                return false;
            }
            Ordering::Equal => {}
            Ordering::Greater => {
                self.stamp = stamp;
                self.lines = 0;
            }
        }
        self.lines += 1;
        self.again = self.lines;
        true
    }
}

impl Follower {
    /// The stream of lines ends when the container stops; it begins anew at each start.
    async fn run(mut self, wake: Arc<Notify>) {
        loop {
            wake.notified().await;
            self.follow().await;
        }
    }

    async fn follow(&mut self) {
        self.seen.again = 0;
        let options = LogsOptionsBuilder::new()
            .follow(true)
            // Servers log to standard error; the other is for what `held` is told.
            .stderr(true)
            .timestamps(true)
            .since(i32::try_from(self.seen.stamp.as_second()).unwrap_or(0))
            .build();
        let mut parts = Box::pin(self.docker.logs(&self.id, Some(options)));
        let mut batch = Batch::default();
        loop {
            match batch.wait(parts.next()).await {
                Next::Part(Ok(part)) => batch.add(&mut self.seen, &String::from_utf8_lossy(part.as_ref())),
                Next::Due => self.flush(&mut batch).await,
                Next::Part(Err(_)) | Next::End => break,
            }
        }
        self.flush(&mut batch).await;
    }

    async fn flush(&self, batch: &mut Batch) {
        let lines = batch.take();
        if !lines.is_empty() {
            // Nobody listens any more: the lab is ending.
            let _ = self.tell.send(RuntimeEvent::Log(self.node.clone(), lines)).await;
        }
    }
}

enum Next<T> {
    Part(T),
    End,
    Due,
}

#[derive(Debug, Default)]
struct Batch {
    lines: Vec<LogLine>,
    left_out: usize,
    due: Option<Instant>,
}

impl Batch {
    async fn wait<T>(&self, next: impl Future<Output = Option<T>>) -> Next<T> {
        let part = match self.due {
            Some(due) => match timeout_at(due, next).await {
                Ok(part) => part,
                Err(_) => return Next::Due,
            },
            None => next.await,
        };
        part.map_or(Next::End, Next::Part)
    }

    /// Takes a line in, with the engine's stamp before it, unless it was seen already.
    fn add(&mut self, seen: &mut Seen, stamped: &str) {
        let (stamp, line) = stamped.split_once(' ').unwrap_or((stamped.trim_end(), ""));
        // What bears no stamp can't have been seen.
        if stamp.parse().is_ok_and(|stamp| !seen.is_new(stamp)) {
            return;
        }
        self.due.get_or_insert_with(|| Instant::now() + BATCH_TIME);
        if self.lines.len() < BATCH_LINES {
            self.lines.push(text::log_line(line));
        } else {
            self.left_out += 1;
        }
    }

    fn take(&mut self) -> Vec<LogLine> {
        let batch = std::mem::take(self);
        let mut lines = batch.lines;
        if batch.left_out > 0 {
            let text = format!("… {} more lines in this moment, left out here", batch.left_out);
            lines.push(LogLine { severity: String::new(), text });
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_once_and_floods_are_counted() {
        let (mut batch, mut seen) = (Batch::default(), Seen::default());
        batch.add(&mut seen, "2026-11-23T14:00:00.000000005Z LOG:  old\n");
        batch.take();
        seen.again = 0;
        batch.add(&mut seen, "2026-11-23T14:00:00.000000005Z LOG:  old\n");
        assert!(batch.take().is_empty());
        for n in 0..(BATCH_LINES + 3) {
            batch.add(&mut seen, &format!("2026-11-23T14:00:01.{n:09}Z x [1] LOG:  {n}\n"));
        }
        let lines = batch.take();
        assert_eq!((lines[0].severity.as_str(), lines[0].text.as_str()), ("LOG", "0"));
        assert_eq!(lines.len(), BATCH_LINES + 1);
        assert!(lines[BATCH_LINES].text.contains("3 more lines"));
        assert!(batch.take().is_empty());
    }

    #[test]
    fn lines_with_the_same_stamp_all_count() {
        let (mut batch, mut seen) = (Batch::default(), Seen::default());
        let texts = |batch: &mut Batch| batch.take().into_iter().map(|line| line.text).collect::<Vec<_>>();
        let add = |batch: &mut Batch, seen: &mut Seen, second: u32, text: &str| {
            batch.add(seen, &format!("2026-11-23T14:00:0{second}Z LOG:  {text}\n"));
        };
        for text in ["a", "b", "b"] {
            add(&mut batch, &mut seen, 1, text);
        }
        assert_eq!(texts(&mut batch), ["a", "b", "b"]);
        // The stream begins anew: what was seen comes again, and one more with that stamp after it.
        seen.again = 0;
        for (second, text) in [(0, "old"), (1, "a"), (1, "b"), (1, "b"), (1, "c"), (2, "d"), (2, "d")] {
            add(&mut batch, &mut seen, second, text);
        }
        assert_eq!(texts(&mut batch), ["c", "d", "d"]);
    }
}
