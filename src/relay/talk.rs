//! What two sides say to each other, counted: the messages of PostgreSQL's protocol and the round trips of one connection.
//! Reads nothing but each message's kind and length (manual 55.7), and says so when it has lost its place.
//!
//! A round trip is counted when an answer follows something asked: bytes up, then bytes down. In a stream of WAL those are
//! turns of the talk, not waits.

use std::sync::{Mutex, PoisonError};

use super::count::Way;

/// The codes that stand in place of a protocol version.
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
/// A start packet is never longer.
const LONGEST_START: u32 = 10_000;
/// No message is longer.
const LONGEST: u32 = 0x4000_0000;

/// What some bytes held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Messages that began in them; None: the place is lost, so that they can't be counted.
    pub messages: Option<u64>,
    /// Whether they answered something.
    pub turn: bool,
}

/// Where one direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Length and code, as a connection begins.
    Start,
    /// One letter in answer to a request for encryption, before the first message.
    Letter,
    /// Kind and length.
    Messages,
    /// Encrypted, or no PostgreSQL at all.
    Lost,
}

#[derive(Debug)]
struct Direction {
    phase: Phase,
    header: [u8; 8],
    have: usize,
    /// Bytes of the present message that are still to come.
    rest: usize,
}

impl Direction {
    fn new(phase: Phase) -> Self {
        Self { phase, header: [0; 8], have: 0, rest: 0 }
    }
}

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Talk(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    up: Direction,
    down: Direction,
    /// Something was asked and not answered yet.
    asked: bool,
}

impl Talk {
    pub(super) fn new() -> Self {
        let (up, down) = (Direction::new(Phase::Start), Direction::new(Phase::Messages));
        Self(Mutex::new(Inner { up, down, asked: false }))
    }

    /// These bytes went this way.
    pub(super) fn hear(&self, way: Way, bytes: &[u8]) -> Heard {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = way == Way::Down && inner.asked;
        inner.asked = way == Way::Up;
        Heard { messages: inner.read(way, bytes), turn }
    }
}

impl Inner {
    fn read(&mut self, way: Way, mut bytes: &[u8]) -> Option<u64> {
        let mut messages = 0;
        while !bytes.is_empty() {
            let one = if way == Way::Up { &mut self.up } else { &mut self.down };
            let skipped = one.rest.min(bytes.len());
            (one.rest, bytes) = (one.rest - skipped, &bytes[skipped..]);
            let Some(&first) = bytes.first() else { break };
            let need = match one.phase {
                Phase::Lost => return None,
                Phase::Letter => {
                    bytes = &bytes[usize::from(first != b'E')..];
                    messages += u64::from(first != b'E');
                    self.letter(first);
                    continue;
                }
                Phase::Start => 8,
                Phase::Messages => 5,
            };
            let taken = (need - one.have).min(bytes.len());
            one.header[one.have..one.have + taken].copy_from_slice(&bytes[..taken]);
            (one.have, bytes) = (one.have + taken, &bytes[taken..]);
            if one.have == need {
                messages += 1;
                self.header(way);
            }
        }
        let phase = if way == Way::Up { self.up.phase } else { self.down.phase };
        (phase != Phase::Lost).then_some(messages)
    }

    /// The server's letter: N means that the talk goes on in the clear.
    fn letter(&mut self, letter: u8) {
        self.down.phase = match letter {
            b'N' | b'E' => Phase::Messages,
            _ => Phase::Lost,
        };
        if self.down.phase == Phase::Lost {
            self.up.phase = Phase::Lost;
        }
    }

    fn header(&mut self, way: Way) {
        let starting = way == Way::Up && self.up.phase == Phase::Start;
        let one = if way == Way::Up { &mut self.up } else { &mut self.down };
        let word = |at: usize| {
            u32::from_be_bytes([one.header[at], one.header[at + 1], one.header[at + 2], one.header[at + 3]])
        };
        one.have = 0;
        if !starting {
            let (kind, length) = (one.header[0], word(1));
            let sane = kind.is_ascii_alphanumeric() && (4..=LONGEST).contains(&length);
            one.rest = if sane { length as usize - 4 } else { 0 };
            one.phase = if sane { Phase::Messages } else { Phase::Lost };
            return;
        }
        let (length, code) = (word(0), word(4));
        one.rest = (length as usize).saturating_sub(8);
        one.phase = match code {
            SSL | GSS if length == 8 => Phase::Start,
            CANCEL => Phase::Start,
            _ if code >> 16 == 3 && (8..=LONGEST_START).contains(&length) => Phase::Messages,
            _ => Phase::Lost,
        };
        if one.phase == Phase::Start && code != CANCEL {
            self.down.phase = Phase::Letter;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u8, body: usize) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend((body as u32 + 4).to_be_bytes());
        bytes.resize(5 + body, b'x');
        bytes
    }

    fn start(code: u32, body: usize) -> Vec<u8> {
        let mut bytes = (body as u32 + 8).to_be_bytes().to_vec();
        bytes.extend(code.to_be_bytes());
        bytes.resize(8 + body, b'x');
        bytes
    }

    proptest! {
        /// However the stream is cut into pieces, the same number comes out.
        #[test]
        fn pieces_make_no_difference(bodies in prop::collection::vec(0_usize..9_000, 0..12), piece in 1_usize..5_000, tls: bool) {
            let talk = Talk::new();
            let mut up = if tls { start(SSL, 0) } else { Vec::new() };
            let before = u64::from(tls);
            prop_assert_eq!(talk.hear(Way::Up, &up).messages, Some(before));
            if tls {
                prop_assert_eq!(talk.hear(Way::Down, b"N"), Heard { messages: Some(1), turn: true });
            }
            up = start(196_608, 40);
            up.extend(bodies.iter().flat_map(|b| message(b'd', *b)));
            let down: Vec<u8> = bodies.iter().flat_map(|b| message(b'Z', *b)).collect();
            let count = |way, bytes: &[u8]| bytes.chunks(piece).map(|c| talk.hear(way, c).messages.unwrap()).sum::<u64>();
            prop_assert_eq!(count(Way::Up, &up), bodies.len() as u64 + 1);
            prop_assert_eq!(count(Way::Down, &down), bodies.len() as u64);
        }

        #[test]
        fn anything_may_be_said(chunks in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20)) {
            let talk = Talk::new();
            for (up, bytes) in chunks {
                talk.hear(if up { Way::Up } else { Way::Down }, &bytes);
            }
        }
    }

    #[test]
    fn a_lost_place_is_said() {
        let encrypted = Talk::new();
        assert_eq!(encrypted.hear(Way::Up, &start(SSL, 0)).messages, Some(1));
        assert_eq!(encrypted.hear(Way::Down, b"S").messages, None);
        assert_eq!(encrypted.hear(Way::Up, b"anything").messages, None);
        assert_eq!(Talk::new().hear(Way::Up, b"GET / HTTP/1.1").messages, None);
        assert_eq!(Talk::new().hear(Way::Down, &[b'Z', 0, 0, 0, 3]).messages, None);
    }

    #[test]
    fn answers_are_turns() {
        let talk = Talk::new();
        let turns = [(Way::Up, false), (Way::Up, false), (Way::Down, true), (Way::Down, false), (Way::Up, false)];
        talk.hear(Way::Up, &start(196_608, 0));
        for (way, turn) in turns {
            assert_eq!(talk.hear(way, &message(b'Q', 1)).turn, turn);
        }
    }
}
