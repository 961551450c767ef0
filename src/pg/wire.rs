//! A thin client on the protocol's own messages (manual 55), for the writers: one send and one receive for each write, no
//! allocation. Knows no books, no plan and no retrying.
//!
//! Every read is cancel-safe: what has arrived stays in the inbox. After an error or an abandoned write the connection is
//! dropped; there is no way back to a known state.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::classify::{Classifier, Frame, Outcome, read_fields};
use super::control::ServerError;
use super::secret::Secret;
use super::sql;
use crate::model::safe_text;

/// A message longer than this is nonsense here.
const MESSAGE_MAX: usize = 64 * 1024 * 1024;
/// Name of the prepared INSERT.
const STATEMENT: &str = "w";

/// Who connects, where and as what.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    /// The server.
    pub address: SocketAddr,
    /// Role.
    pub user: &'a str,
    /// Its password.
    pub password: &'a Secret,
    /// Database.
    pub database: &'a str,
    /// `application_name`.
    pub application: &'a str,
    /// Settings of the session, in effect from its first statement.
    pub settings: &'a [(&'a str, &'a str)],
}

/// Why the connection is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The connection couldn't be made, or it ended.
    #[error("{0}")]
    Lost(String),
    /// The server refused.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// The server said something this client doesn't understand.
    #[error("unexpected answer: {0}")]
    Protocol(String),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        Self::Lost(safe_text(&error.to_string()))
    }
}

/// What has been received and not yet been read.
#[derive(Debug)]
struct Inbox {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Inbox {
    fn new() -> Self {
        Self { bytes: vec![0; 8 * 1024], from: 0, to: 0 }
    }

    /// The length of the first whole message, with its type byte and length word; None when it isn't whole yet.
    fn whole(&self) -> Result<Option<usize>, WireError> {
        let held = &self.bytes[self.from..self.to];
        let Some(word) = held.get(1..5) else { return Ok(None) };
        let length = 1 + word.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        match length {
            0..5 | MESSAGE_MAX.. => Err(WireError::Protocol(format!("a message of {length} bytes"))),
            _ => Ok((held.len() >= length).then_some(length)),
        }
    }

    /// Takes the first whole message.
    fn take(&mut self) -> Result<Option<Frame<'_>>, WireError> {
        let Some(length) = self.whole()? else { return Ok(None) };
        let message = &self.bytes[self.from..self.from + length];
        self.from += length;
        Ok(Some(Frame { tag: message[0], body: &message[5..] }))
    }

    /// Room to receive into: all of it when nothing is held, so that a short read shows the socket to be empty.
    fn room(&mut self) -> &mut [u8] {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.from > 0 {
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        if self.to == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        &mut self.bytes[self.to..]
    }
}

/// A logged-in connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    inbox: Inbox,
}

impl Wire {
    /// Connects and logs in.
    pub async fn connect(login: &Login<'_>) -> Result<Self, WireError> {
        let stream = TcpStream::connect(login.address).await?;
        stream.set_nodelay(true)?;
        let mut wire = Self { stream, inbox: Inbox::new() };
        let mut out = BytesMut::with_capacity(256);
        let fixed = [("user", login.user), ("database", login.database), ("application_name", login.application)];
        frontend::startup_message(fixed.into_iter().chain(login.settings.iter().copied()), &mut out)?;
        wire.send(&out).await?;
        wire.log_in(login.password).await?;
        Ok(wire)
    }

    /// Answers the server's questions until it is ready (manual 55.2.1, 55.3.1).
    async fn log_in(&mut self, password: &Secret) -> Result<(), WireError> {
        let mut scram = None;
        loop {
            let mut out = BytesMut::new();
            let frame = self.next().await?;
            match frame.tag {
                b'R' => authenticate(frame.body, password, &mut scram, &mut out)?,
                b'E' => return Err(WireError::Server(Box::new(read_fields(frame.body)))),
                b'Z' => return Ok(()),
                // ParameterStatus, BackendKeyData, NoticeResponse.
                b'S' | b'K' | b'N' => {}
                other => return Err(WireError::Protocol(format!("message {:?} while logging in", char::from(other)))),
            }
            if !out.is_empty() {
                self.send(&out).await?;
            }
        }
    }

    /// Sends all of `bytes`.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// The next message, waiting for it.
    pub async fn next(&mut self) -> Result<Frame<'_>, WireError> {
        while self.inbox.whole()?.is_none() {
            self.receive().await?;
        }
        // Whole, as was just seen.
        self.inbox.take()?.ok_or_else(|| WireError::Protocol("nothing".to_owned()))
    }

    /// Receives once. An end of the stream is an error.
    async fn receive(&mut self) -> Result<(), WireError> {
        let count = self.stream.read(self.inbox.room()).await?;
        if count == 0 {
            return Err(WireError::Lost("the server closed the connection".to_owned()));
        }
        self.inbox.to += count;
        Ok(())
    }

    /// Waits for the answer to one write. The connection's end is an answer too. When it is dropped before it is ready,
    /// the write stays without an answer: drop the connection.
    pub async fn answer(&mut self, classifier: &mut Classifier) -> Result<Outcome, WireError> {
        loop {
            while let Some(frame) = self.inbox.take()? {
                if let Some(outcome) = classifier.take(frame) {
                    return Ok(outcome);
                }
            }
            self.receive().await?;
        }
    }

    /// Waits, while nothing is asked, for the server to end the connection; says why. Reads and forgets what else comes.
    pub async fn ended(&mut self) -> WireError {
        loop {
            match self.next().await {
                Ok(frame) if frame.tag == b'E' => return WireError::Server(Box::new(read_fields(frame.body))),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Runs a statement that brings no rows and waits until the server is ready again.
    pub async fn execute(&mut self, statement: &str) -> Result<(), WireError> {
        let mut out = BytesMut::new();
        frontend::query(statement, &mut out)?;
        self.send(&out).await?;
        self.ready().await
    }

    /// Prepares the writers' INSERT with int4, int8 and text parameters.
    pub async fn prepare_insert(&mut self) -> Result<(), WireError> {
        let mut out = BytesMut::new();
        frontend::parse(STATEMENT, sql::INSERT, [23, 20, 25], &mut out)?;
        frontend::sync(&mut out);
        self.send(&out).await?;
        self.ready().await
    }

    /// Sets `synchronous_commit` for this session.
    pub async fn set_level(&mut self, level: &str) -> Result<(), WireError> {
        self.execute(&sql::set_level(level)).await
    }

    async fn ready(&mut self) -> Result<(), WireError> {
        let mut error = None;
        loop {
            let frame = self.next().await?;
            match frame.tag {
                b'E' => error = Some(WireError::Server(Box::new(read_fields(frame.body)))),
                b'Z' => return error.map_or(Ok(()), Err),
                _ => {}
            }
        }
    }
}

/// One step of the log-in. Only SCRAM and no question at all are accepted: the password is never sent.
fn authenticate(
    body: &[u8],
    password: &Secret,
    scram: &mut Option<ScramSha256>,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let Some((kind, rest)) = body.split_first_chunk::<4>() else {
        return Err(WireError::Protocol("a short authentication request".to_owned()));
    };
    match (i32::from_be_bytes(*kind), scram) {
        (0, _) => Ok(()),
        (10, scram) if rest.split(|b| *b == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) => {
            let begun = scram.insert(ScramSha256::new(password.reveal().as_bytes(), ChannelBinding::unsupported()));
            Ok(frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), out)?)
        }
        (11, Some(begun)) => {
            begun.update(rest)?;
            Ok(frontend::sasl_response(begun.message(), out)?)
        }
        (12, Some(begun)) => Ok(begun.finish(rest)?),
        (other, _) => Err(WireError::Protocol(format!("authentication request {other}"))),
    }
}

/// One client's INSERT as it goes over the wire: Bind, Execute, Sync. Only the number changes from write to write.
#[derive(Clone, Debug)]
pub struct Insert {
    bytes: BytesMut,
    seq_at: usize,
}

impl Insert {
    /// For `client`, with `payload` in each row.
    pub fn new(client: u32, payload: &str) -> io::Result<Self> {
        const MARK: [u8; 8] = *b"\xfe\xed\xbe\xef\xfe\xed\xbe\xef";
        let client = client.to_be_bytes();
        let values: [&[u8]; 3] = [&client, &MARK, payload.as_bytes()];
        let mut bytes = BytesMut::new();
        let put = |value: &[u8], out: &mut BytesMut| {
            out.extend_from_slice(value);
            Ok(IsNull::No)
        };
        frontend::bind("", STATEMENT, [1], values, put, [], &mut bytes).map_err(|error| match error {
            frontend::BindError::Conversion(error) => io::Error::other(error),
            frontend::BindError::Serialization(error) => error,
        })?;
        frontend::execute("", 0, &mut bytes)?;
        frontend::sync(&mut bytes);
        let found = bytes.windows(MARK.len()).position(|window| window == MARK);
        let seq_at = found.ok_or_else(|| io::Error::other("the number isn't in its own message"))?;
        Ok(Self { bytes, seq_at })
    }

    /// The message for this number.
    pub fn with(&mut self, seq: u64) -> &[u8] {
        self.bytes[self.seq_at..self.seq_at + 8].copy_from_slice(&seq.to_be_bytes());
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_number_changes() {
        let mut insert = Insert::new(7, "abc").unwrap();
        let (one, two) = (insert.with(1).to_vec(), insert.with(0x0102_0304_0506_0708).to_vec());
        assert_eq!(one.len(), two.len());
        let at = insert.seq_at;
        assert_eq!(two[at..at + 8], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((&one[..at], &one[at + 8..]), (&two[..at], &two[at + 8..]));
        assert_eq!(one[at - 8..at - 4], [0, 0, 0, 7], "the client's number is before it");
    }

    #[test]
    fn a_nonsense_length_is_refused() {
        let mut inbox = Inbox::new();
        for word in [[0, 0, 0, 0], [0, 0, 0, 3], [0xff; 4]] {
            inbox.room()[..5].copy_from_slice(&[b'C', word[0], word[1], word[2], word[3]]);
            inbox.to = 5;
            assert!(inbox.take().is_err(), "{word:?}");
            (inbox.from, inbox.to) = (0, 0);
        }
    }

    proptest! {
        /// However the stream is cut into pieces, the same messages come out.
        #[test]
        fn pieces_make_no_difference(sizes in prop::collection::vec(0_usize..20_000, 1..8), cut in 1_usize..9_000) {
            let mut stream = Vec::new();
            for size in &sizes {
                stream.push(b'd');
                stream.extend(u32::try_from(size + 4).unwrap().to_be_bytes());
                stream.extend(std::iter::repeat_n(b'x', *size));
            }
            let (mut inbox, mut seen) = (Inbox::new(), Vec::new());
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let room = inbox.room();
                let count = cut.min(room.len()).min(rest.len());
                room[..count].copy_from_slice(&rest[..count]);
                inbox.to += count;
                rest = &rest[count..];
                while let Some(frame) = inbox.take().unwrap() {
                    seen.push(frame.body.len());
                }
            }
            prop_assert_eq!(seen, sizes);
        }
    }
}
