//! A lab's whole history as a file: the stream of messages, from which `update` makes the same model again.
//!
//! A recording is a row of gzip members, so `zcat FILE` shows it. The first holds the [`Header`], each other one some seconds of
//! messages, a line each: `[microseconds, message]`; an empty one is the end. Every member carries its own checksum: what comes before a damaged
//! place can always be read. Knows no files and no clock.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::model::Stamp;
use crate::model::msg::Msg;

pub mod by_hand;
pub mod reel;
pub mod shipped;

pub use reel::{Player, Reel};

/// The version of the format. It grows by one when an older replab could not read what a newer one writes.
pub const FORMAT: u32 = 1;
/// A part is closed when it spans this long, in milliseconds: what a crash of replab's own may cost.
const PART_MS: u64 = 2_000;
/// Or when it is this large.
const PART_BYTES: usize = 1 << 20;
/// No part of ours is larger unpacked; a file that says otherwise isn't ours.
const UNPACKED_MAX: u64 = 64 << 20;

/// What is known of a recording before its first message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`]; its name tells what kind of file it is.
    pub replab_recording: u32,
    /// The version of replab that wrote it.
    pub replab: String,
    /// The lab's id.
    pub lab: String,
    /// "docker" or "process".
    pub runtime: String,
    /// The image or the programs' folder.
    pub source: String,
    /// The lesson's title, if one was played.
    pub title: Option<String>,
    /// When it began, as RFC 3339 has it.
    pub began: String,
    /// The seed, where chance had a part.
    pub seed: Option<u64>,
    /// Whether its end is marked ([`tail`]): without the mark it was cut off then. Older ones have none.
    #[serde(default)]
    pub end_marked: bool,
}

/// Where a part lies, and which moments it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The moment of its first message.
    pub from: Stamp,
    /// The moment of its last one.
    pub to: Stamp,
    /// Its first byte in the file.
    pub offset: u64,
    /// How many bytes it has.
    pub len: usize,
}

/// Messages on their way into a file.
#[derive(Debug, Default)]
pub struct Part {
    text: Vec<u8>,
    span: Option<(Stamp, Stamp)>,
}

impl Part {
    /// Whether nothing is in it yet.
    pub fn is_empty(&self) -> bool {
        self.span.is_none()
    }

    /// Takes in one message; says whether the part is full now.
    pub fn add(&mut self, at: Stamp, msg: &Msg) -> serde_json::Result<bool> {
        let kept = self.text.len();
        if let Err(error) = serde_json::to_writer(&mut self.text, &(at, msg)) {
            self.text.truncate(kept);
            return Err(error);
        }
        self.text.push(b'\n');
        let from = self.span.map_or(at, |(from, _)| from);
        self.span = Some((from, at));
        Ok(at.ms_since(from) >= PART_MS || self.text.len() >= PART_BYTES)
    }

    /// The part packed, as it is to be laid down at `offset`; None while there is nothing in it.
    pub fn seal(&mut self, offset: u64) -> Option<(Place, Vec<u8>)> {
        let (from, to) = self.span.take()?;
        let bytes = pack(&std::mem::take(&mut self.text), Compression::default());
        Some((Place { from, to, offset, len: bytes.len() }, bytes))
    }
}

/// The first member of a file.
pub fn head(header: &Header) -> Vec<u8> {
    let mut line = serde_json::to_vec(header).unwrap_or_else(|e| unreachable!("a header is plain data: {e}"));
    line.push(b'\n');
    pack(&line, Compression::default())
}

/// The last member of a recording that came to its own end: an empty one. Without it the lab still runs, or replab was killed, or
/// the file was cut off, be it exactly between two parts.
pub fn tail() -> Vec<u8> {
    pack(&[], Compression::default())
}

/// Why a file can't be replayed at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReadable {
    /// It is something else.
    #[error("it is not a recording of replab's")]
    Foreign,
    /// It was written by a later replab.
    #[error("it has format {0}; this replab reads up to {FORMAT}: use a newer one")]
    Newer(u32),
}

/// Reads the first member: the header, and where the next member begins.
pub fn read_head(bytes: &[u8]) -> Result<(Header, usize), NotReadable> {
    let (text, len) = unpack(bytes).map_err(|_| NotReadable::Foreign)?;
    let header: Header = serde_json::from_slice(&text).map_err(|_| NotReadable::Foreign)?;
    if header.replab_recording > FORMAT {
        return Err(NotReadable::Newer(header.replab_recording));
    }
    Ok((header, len))
}

/// Reads the part that `bytes` begin with: its messages, and how long it is. The error says in words what is wrong with it.
pub fn read_part(bytes: &[u8]) -> Result<(Vec<(Stamp, Msg)>, usize), String> {
    let (text, len) = unpack(bytes).map_err(|error| error.to_string())?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let messages = lines.map(serde_json::from_slice).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    Ok((messages, len))
}

/// All messages of a recording, up to where it is damaged.
pub fn messages(bytes: &[u8]) -> impl Iterator<Item = (Stamp, Msg)> {
    let mut rest = read_head(bytes).map_or(&[][..], |(_, len)| &bytes[len..]);
    let parts = std::iter::from_fn(move || {
        let (messages, len) = read_part(rest).ok()?;
        rest = &rest[len..];
        Some(messages)
    });
    parts.flatten()
}

/// Packs one member.
pub(crate) fn pack(text: &[u8], how: Compression) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), how);
    let done = packer.write_all(text).and_then(|()| packer.finish());
    done.unwrap_or_else(|e| unreachable!("memory takes it all: {e}"))
}

/// Unpacks the member that `bytes` begin with, and says how long it is.
pub(crate) fn unpack(bytes: &[u8]) -> std::io::Result<(Vec<u8>, usize)> {
    let mut unpacker = GzDecoder::new(bytes).take(UNPACKED_MAX);
    let mut text = Vec::new();
    unpacker.read_to_end(&mut text)?;
    if unpacker.limit() == 0 {
        return Err(std::io::Error::other("a part is larger than any of ours"));
    }
    Ok((text, bytes.len() - unpacker.into_inner().into_inner().len()))
}

#[cfg(test)]
mod tests;
