//! What a server's answer to one write means: a pure state machine over protocol messages. Knows no socket and no clock.
//!
//! One write is Bind, Execute, Sync of one INSERT that is a transaction of its own. In this extended protocol the server
//! sends `CommandComplete` before it commits: the commit, and the wait for synchronous standbys, happen at Sync (manual
//! 55.2.3; `exec_execute_message` in postgres.c). So `CommandComplete` is no acknowledgement yet; `ReadyForQuery` after it
//! is. A terminated waiter proves it: `CommandComplete` comes through, then WARNING 57P01, then the end (our test
//! `the_classifiers_table_on_a_real_server`). What comes after `ReadyForQuery`, a FATAL say, is about no write at all.

use super::control::ServerError;
use crate::model::ledger::Ack;
use crate::model::safe_text;

/// Begins the WARNING of a commit whose wait for a standby was cancelled; needs `lc_messages` = C (facts, first table). A
/// terminated one says "canceling the wait …".
const WAIT_CANCELLED: &str = "canceling wait for synchronous replication";
/// One row, inserted (manual 55.7, `CommandComplete`).
const EXPECTED_TAG: &[u8] = b"INSERT 0 1\0";

/// One message of the server (manual 55.7): its type byte, and its contents without the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type byte.
    pub tag: u8,
    /// The contents.
    pub body: &'a [u8],
}

/// What became of one write, and what the server said about it, if it said anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The class.
    pub ack: Ack,
    /// The error, or the warning before the end.
    pub said: Option<Box<ServerError>>,
}

/// Reads the answer to one write.
#[derive(Debug, Default)]
pub struct Classifier {
    tag: Option<bool>,
    cancelled: bool,
    error: bool,
    said: Option<Box<ServerError>>,
}

impl Classifier {
    /// Takes the next message. Some: this write is decided, whatever comes later.
    pub fn take(&mut self, frame: Frame<'_>) -> Option<Outcome> {
        match frame.tag {
            b'C' => self.tag = Some(frame.body == EXPECTED_TAG),
            b'N' => self.notice(read_fields(frame.body)),
            b'E' => {
                let error = read_fields(frame.body);
                self.error = error.severity == "ERROR";
                let fatal = !self.error;
                self.said = Some(Box::new(error));
                // FATAL and PANIC end the session: nothing decides this write any more.
                return fatal.then(|| self.outcome(Ack::Unknown));
            }
            b'Z' => {
                let ack = self.at_ready(frame.body);
                return Some(self.outcome(ack));
            }
            // BindComplete, ParameterStatus, NotificationResponse and the like say nothing about the write.
            _ => {}
        }
        None
    }

    /// The connection ended before `ReadyForQuery`.
    pub fn closed(mut self) -> Outcome {
        self.outcome(Ack::Unknown)
    }

    fn at_ready(&self, status: &[u8]) -> Ack {
        match (self.error, self.tag, status) {
            // An ERROR after CommandComplete came from the commit itself: rolled back too.
            (true, _, b"I") => Ack::Failed,
            (false, Some(true), b"I") if self.cancelled => Ack::AckedWithWarning,
            (false, Some(true), b"I") => Ack::Acked,
            _ => Ack::Unknown,
        }
    }

    fn notice(&mut self, notice: ServerError) {
        if notice.severity == "WARNING" {
            self.cancelled |= notice.message.starts_with(WAIT_CANCELLED);
            self.said = Some(Box::new(notice));
        }
    }

    fn outcome(&mut self, ack: Ack) -> Outcome {
        Outcome { ack, said: self.said.take() }
    }
}

/// The fields of an `ErrorResponse` or `NoticeResponse` (manual 55.8). `V` is the severity that is never translated.
pub fn read_fields(body: &[u8]) -> ServerError {
    let mut error = ServerError::default();
    let mut plain_severity = None;
    for field in body.split(|byte| *byte == 0) {
        let Some((kind, text)) = field.split_first() else { continue };
        let text = safe_text(&String::from_utf8_lossy(text));
        match kind {
            b'S' if error.severity.is_empty() => error.severity = text,
            b'V' => plain_severity = Some(text),
            b'C' => error.code = text,
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            b'H' => error.hint = Some(text),
            _ => {}
        }
    }
    error.severity = plain_severity.unwrap_or(error.severity);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message in short: `2`, `C INSERT 0 1`, `Z I`, `N WARNING 01000 text`, `E ERROR 23505 text`.
    fn frame(short: &str) -> (u8, Vec<u8>) {
        let (tag, rest) = short.split_once(' ').unwrap_or((short, ""));
        let body = match tag {
            "C" => format!("{rest}\0").into_bytes(),
            "N" | "E" => {
                let mut words = rest.splitn(3, ' ');
                let mut word = || words.next().unwrap();
                format!("SIrgendwas\0V{}\0C{}\0M{}\0\0", word(), word(), word()).into_bytes()
            }
            _ => rest.as_bytes().to_vec(),
        };
        (tag.as_bytes()[0], body)
    }

    /// Feeds the messages; the end of the list is the end of the connection.
    fn class(messages: &[&str]) -> Ack {
        let mut classifier = Classifier::default();
        for message in messages {
            let (tag, body) = frame(message);
            if let Some(outcome) = classifier.take(Frame { tag, body: &body }) {
                return outcome.ack;
            }
        }
        classifier.closed().ack
    }

    const CANCELLED: &str = "N WARNING 01000 canceling wait for synchronous replication due to user request";
    const TERMINATED: &str =
        "N WARNING 57P01 canceling the wait for synchronous replication and terminating connection";

    #[test]
    fn the_table() {
        let table: &[(&[&str], Ack)] = &[
            (&["2", "C INSERT 0 1", "Z I"], Ack::Acked),
            (&["2", "C INSERT 0 1", CANCELLED, "Z I"], Ack::AckedWithWarning),
            (&["2", CANCELLED, "C INSERT 0 1", "Z I"], Ack::AckedWithWarning),
            (&["2", "C INSERT 0 1", "N WARNING 01000 something else", "Z I"], Ack::Acked),
            (&["2", "C INSERT 0 1", "N NOTICE 00000 canceling wait for synchronous replication", "Z I"], Ack::Acked),
            (&["2", "C INSERT 0 1", TERMINATED], Ack::Unknown),
            (&["2", "C INSERT 0 1", "N WARNING 57P02 terminating connection because of crash"], Ack::Unknown),
            (&["2", "C INSERT 0 1"], Ack::Unknown),
            (&[], Ack::Unknown),
            (&["E ERROR 25006 cannot execute INSERT in a read-only transaction", "Z I"], Ack::Failed),
            (&["2", "C INSERT 0 1", "E ERROR 23503 deferred constraint", "Z I"], Ack::Failed),
            (&["E ERROR 23505 duplicate key"], Ack::Unknown),
            (&["E FATAL 57P01 terminating connection", "Z I"], Ack::Unknown),
            (&["2", "C INSERT 0 1", "E FATAL 57P01 terminating connection"], Ack::Unknown),
            (&["2", "C INSERT 0 1", "Z I", "E FATAL 57P01 too late to matter"], Ack::Acked),
            (&["2", "C INSERT 0 0", "Z I"], Ack::Unknown),
            (&["2", "C ROLLBACK", "Z I"], Ack::Unknown),
            (&["2", "C INSERT 0 1", "Z T"], Ack::Unknown),
            (&["2", "Z I"], Ack::Unknown),
            (&["S TimeZone", "A x", "2", "C INSERT 0 1", "S x", "Z I"], Ack::Acked),
        ];
        for (messages, ack) in table {
            assert_eq!(class(messages), *ack, "{messages:?}");
        }
    }

    #[test]
    fn fields_are_read_and_made_safe() {
        let error = read_fields(b"SFEHLER\0VERROR\0C22012\0Mdivision\x1b[2J\0Dd\0Hh\0\0");
        assert_eq!((error.severity.as_str(), error.code.as_str()), ("ERROR", "22012"));
        assert_eq!(error.message, "division\\u{1b}[2J");
        assert_eq!((error.detail.as_deref(), error.hint.as_deref()), (Some("d"), Some("h")));
        assert_eq!(read_fields(b"SWARNING\0\0").severity, "WARNING");
    }
}
