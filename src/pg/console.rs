//! Runs what a person types or a lesson says, on a connection of its own, kept or not, and brings back what the server said, in
//! order. Knows no prompt.
//!
//! The session is as the server has it by default: its commits wait for standbys like anybody's. `statement_timeout`
//! ends what runs too long; it doesn't fire while a plain commit waits (facts, first table), and then the answer says
//! that the time is over and that the statement may still commit.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::classify::{Frame, read_fields};
use super::control::{Control, ControlError, ServerError};
use super::secret::Secret;
use super::sql;
use super::wire::{Login, Wire, WireError};
use crate::model::safe_text;

/// How much of an answer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of each result.
    pub rows: usize,
    /// Characters of each value.
    pub value: usize,
    /// Time for all of it.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 200, value: 2_000, time: Duration::from_secs(20) }
    }
}

/// One thing the server said, all text safe for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A result.
    Rows {
        /// Names of the columns.
        columns: Vec<String>,
        /// The first rows; None is NULL.
        rows: Vec<Vec<Option<String>>>,
        /// How many more there were.
        more: u64,
    },
    /// A command ended, with this tag: `INSERT 0 1`.
    Tag(String),
    /// A notice or warning.
    Notice(ServerError),
    /// An error; the rest of the text was not run.
    Error(ServerError),
}

/// Everything the server said, and how long that took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// In the order it came.
    pub said: Vec<Said>,
    /// From sending to the end, in microseconds.
    pub took_us: u64,
    /// The time was over, or the connection was lost, before the server was ready: what still ran may go on there, and may commit.
    pub unfinished: bool,
    /// Why the connection was lost, if it was.
    pub lost: Option<String>,
    /// How the transaction stands.
    pub transaction: Transaction,
}

/// What a session's transaction is like between statements (manual 55.7, `ReadyForQuery`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transaction {
    /// There is none.
    #[default]
    None,
    /// One is open.
    Open,
    /// One is open and can only be rolled back.
    Failed,
}

/// A session that is kept from one text to the next.
#[derive(Debug)]
pub struct Console {
    wire: Wire,
}

/// Whose session it is.
#[derive(Clone, Copy, Debug)]
pub enum Rights<'a> {
    /// The person's, who may do everything.
    Owner,
    /// A lesson's: its role owns nothing but what it makes in the lab's database.
    Lesson(&'a Secret),
}

impl Control {
    /// Runs SQL text, one or several statements, in database `lab` as the control role.
    pub async fn run_text(&self, text: &str, limits: Limits) -> Result<Answer, ControlError> {
        self.run_text_as(Rights::Owner, text, limits).await
    }

    /// The same with those rights.
    pub async fn run_text_as(&self, rights: Rights<'_>, text: &str, limits: Limits) -> Result<Answer, ControlError> {
        let began = Instant::now();
        match tokio::time::timeout(limits.time, self.console(rights, limits.time)).await {
            Ok(console) => {
                let left = limits.time.saturating_sub(began.elapsed());
                let answer = console?.run(text, Limits { time: left, ..limits }).await?;
                Ok(Answer { took_us: micros(began), ..answer })
            }
            Err(_) => Ok(Answer { took_us: micros(began), unfinished: true, ..Answer::default() }),
        }
    }

    /// Opens a session in database `lab`. What runs in it longer than `statement` is ended by the server.
    pub async fn console(&self, rights: Rights<'_>, statement: Duration) -> Result<Console, ControlError> {
        let address = self.address();
        let timeout = statement.as_millis().to_string();
        let wire = match rights {
            Rights::Owner => open(self, &timeout).await,
            Rights::Lesson(password) => {
                log_in(self, sql::LESSON_ROLE, password, sql::DATABASE, ("replab lesson", &timeout)).await
            }
        };
        let wire = wire.map_err(|error| match lost(error) {
            ControlError::Lost(why) => ControlError::Connect(address, why),
            other => other,
        })?;
        Ok(Console { wire })
    }
}

impl Console {
    /// Runs SQL text, one or several statements. After an error of this call, or an unfinished answer, the session is of no more
    /// use.
    pub async fn run(&mut self, text: &str, limits: Limits) -> Result<Answer, ControlError> {
        let began = Instant::now();
        let mut answer = Answer::default();
        let result = tokio::time::timeout(limits.time, self.ask(text, limits, &mut answer)).await;
        answer.took_us = micros(began);
        match result {
            Ok(Ok(())) => Ok(answer),
            // The server ended the session after it had said something: that is the answer.
            Ok(Err(error)) if !answer.said.is_empty() => {
                answer.unfinished = true;
                answer.lost = Some(error.to_string());
                Ok(answer)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                answer.unfinished = true;
                Ok(answer)
            }
        }
    }

    /// Waits, while nothing runs, for the server to end the session; says why. May be given up and taken up again.
    pub async fn ended(&mut self) -> String {
        lost(self.wire.ended().await).to_string()
    }

    async fn ask(&mut self, text: &str, limits: Limits, answer: &mut Answer) -> Result<(), ControlError> {
        let shape = |error: std::io::Error| ControlError::Shape(safe_text(&error.to_string()));
        let mut out = BytesMut::new();
        frontend::query(text, &mut out).map_err(shape)?;
        self.wire.send(&out).await.map_err(lost)?;
        loop {
            let frame = self.wire.next().await.map_err(lost)?;
            match frame.tag {
                b'Z' => {
                    answer.transaction = match frame.body.first() {
                        Some(b'T') => Transaction::Open,
                        Some(b'E') => Transaction::Failed,
                        _ => Transaction::None,
                    };
                    return Ok(());
                }
                // COPY FROM STDIN: there is nothing to send (manual 55.2.6).
                b'G' => {
                    let mut refusal = BytesMut::new();
                    frontend::copy_fail("the lab's prompt has no data to copy", &mut refusal).map_err(shape)?;
                    self.wire.send(&refusal).await.map_err(lost)?;
                }
                _ => take(frame, limits, answer),
            }
        }
    }
}

fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn lost(error: WireError) -> ControlError {
    match error {
        WireError::Server(error) => ControlError::Server(error),
        WireError::Lost(why) => ControlError::Lost(why),
        other @ WireError::Protocol(_) => ControlError::Shape(other.to_string()),
    }
}

/// Logs in with the first key that opens, in database `lab`, or `postgres` where there is none.
async fn open(control: &Control, timeout: &str) -> Result<Wire, WireError> {
    let mut refused = WireError::Protocol("no password to log in with".to_owned());
    for password in control.keys() {
        for database in [sql::DATABASE, sql::DATABASE_OF_ALL] {
            match log_in(control, sql::CONTROL_ROLE, &password, database, ("replab prompt", timeout)).await {
                Err(WireError::Server(error)) if matches!(error.code.as_str(), "28P01" | "3D000") => {
                    refused = WireError::Server(error);
                }
                other => return other,
            }
        }
    }
    Err(refused)
}

async fn log_in(
    control: &Control,
    user: &str,
    password: &Secret,
    database: &str,
    (application, timeout): (&str, &str),
) -> Result<Wire, WireError> {
    let settings: &[(&str, &str)] = &[("statement_timeout", timeout), ("datestyle", "iso")];
    let login = Login { address: control.address(), user, password, database, application, settings };
    Wire::connect(&login).await
}

fn take(frame: Frame<'_>, limits: Limits, answer: &mut Answer) {
    match frame.tag {
        b'T' => answer.said.push(Said::Rows { columns: columns(frame.body), rows: Vec::new(), more: 0 }),
        b'D' => {
            if let Some(Said::Rows { rows, more, .. }) = answer.said.last_mut() {
                if rows.len() < limits.rows {
                    rows.push(values(frame.body, limits.value));
                } else {
                    *more += 1;
                }
            }
        }
        b'C' => answer.said.push(Said::Tag(text_of(frame.body, limits.value))),
        b'N' => answer.said.push(Said::Notice(read_fields(frame.body))),
        b'E' => answer.said.push(Said::Error(read_fields(frame.body))),
        _ => {}
    }
}

/// The names in a `RowDescription`: a count, then for each a name ending in 0 and 18 bytes.
fn columns(body: &[u8]) -> Vec<String> {
    let mut rest = body.get(2..).unwrap_or_default();
    let mut names = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.push(text_of(&rest[..end], 200));
        rest = rest.get(end + 19..).unwrap_or_default();
    }
    names
}

/// The values in a `DataRow`: a count, then for each a length (-1: NULL) and that many bytes.
fn values(body: &[u8], limit: usize) -> Vec<Option<String>> {
    let mut rest = body.get(2..).unwrap_or_default();
    let mut values = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (value, after) = after.split_at(length.unwrap_or(0).min(after.len()));
        values.push(length.map(|_| text_of(value, limit)));
        rest = after;
    }
    values
}

fn text_of(bytes: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes));
    match text.char_indices().nth(limit) {
        Some((at, _)) => safe_text(&text[..at]) + "…",
        None => safe_text(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_cut() {
        let description = [&[0, 2][..], b"a\0", &[0; 18], b"b\x1b\0", &[0; 18]].concat();
        assert_eq!(columns(&description), ["a", "b\\u{1b}"]);
        let row = [&[0, 2][..], &[0xff; 4], &[0, 0, 0, 5], b"hello"].concat();
        assert_eq!(values(&row, 3), [None, Some("hel…".to_owned())]);
        assert_eq!(values(&row, 5), [None, Some("hello".to_owned())]);
        assert_eq!(values(&[0, 1, 0, 0, 0, 99, b'x'], 5), [Some("x".to_owned())], "a lie about the length");
    }
}
