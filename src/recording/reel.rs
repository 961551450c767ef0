//! Finding a moment again: keyframes (the model, packed) now and then, and the messages from there on. Bounded in memory however
//! long a lab lives: when there are too many keyframes, every other one goes.

use flate2::Compression;

use crate::model::journal::Who;
use crate::model::msg::Msg;
use crate::model::{Model, Stage, Stamp, update};

use super::{Header, NotReadable, Place, pack, read_head, read_part, unpack};

/// Keyframes kept: some ten thousand bytes each, and a jump is the shorter the more there are.
const KEYFRAMES: usize = 256;
/// Parts between two keyframes, at first.
const SPACING: usize = 8;
/// A player goes on from where it is to a moment so many milliseconds later; further away it looks for a keyframe.
const NEAR_MS: u64 = 20_000;

/// What is told of a recording that stops between two parts.
const NO_END: &str = "it has no end: the lab still runs, or replab was killed, or the file was cut off";

/// The bytes of a recording, wherever they are.
pub trait Film {
    /// The bytes of one part.
    fn part(&self, place: &Place) -> std::io::Result<Vec<u8>>;
}

impl Film for Vec<u8> {
    fn part(&self, place: &Place) -> std::io::Result<Vec<u8>> {
        let from = usize::try_from(place.offset).unwrap_or(usize::MAX);
        let end = from.saturating_add(place.len);
        self.get(from..end).map(<[u8]>::to_vec).ok_or_else(|| std::io::Error::other("the recording has become shorter"))
    }
}

/// A moment worth going to: something that was asked for, or a step of the lesson.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: Stamp,
    /// What.
    pub text: String,
}

/// The model before a part.
#[derive(Clone, Debug)]
struct Keyframe {
    part: usize,
    packed: Vec<u8>,
}

/// The parts of a recording, its keyframes and marks. Grows while a lab lives.
#[derive(Clone, Debug)]
pub struct Reel {
    /// What is known of it.
    pub header: Header,
    /// Where it is damaged, and how, if it is: what comes after that can't be seen.
    pub damage: Option<String>,
    /// So many bytes of it are whole.
    pub whole: usize,
    /// Moments worth going to, oldest first.
    pub marks: Vec<Mark>,
    pub(super) places: Vec<Place>,
    keyframes: Vec<Keyframe>,
    spacing: usize,
    /// So many journal entries and chapters have been looked at for marks.
    told: usize,
    chapters: usize,
}

impl Reel {
    /// A reel with nothing on it.
    pub fn new(header: Header) -> Self {
        Self {
            header,
            damage: None,
            whole: 0,
            marks: Vec::new(),
            places: Vec::new(),
            keyframes: Vec::new(),
            spacing: SPACING,
            told: 0,
            chapters: 0,
        }
    }

    /// A whole recording, looked through once; gives the model at its end too. What is damaged ends it there.
    pub fn load(bytes: &[u8]) -> Result<(Self, Model), NotReadable> {
        let (header, mut offset) = read_head(bytes)?;
        let (mut reel, mut model) = (Self::new(header), Model::default());
        let mut ended = false;
        while offset < bytes.len() {
            let part = read_part(&bytes[offset..]).and_then(|(messages, len)| {
                let span = messages.first().zip(messages.last()).map(|((from, _), (to, _))| (*from, *to));
                Ok((span, follow_on(&model, messages)?, len))
            });
            let (span, after, len) = match part {
                Ok(part) => part,
                Err(why) => {
                    reel.damage = Some(format!("damaged at byte {offset} of {}: {why}", bytes.len()));
                    break;
                }
            };
            ended = span.is_none();
            if let Some((from, to)) = span {
                reel.begin(&model);
                reel.push(Place { from, to, offset: offset as u64, len });
            }
            model = after;
            reel.note(&model);
            offset += len;
        }
        reel.whole = offset;
        if !ended && reel.header.end_marked {
            reel.damage.get_or_insert_with(|| NO_END.to_owned());
        }
        Ok((reel, model))
    }

    /// The next part begins; `before` is the model as it is before the part's first message.
    pub fn begin(&mut self, before: &Model) {
        let part = self.places.len();
        if !part.is_multiple_of(self.spacing) || self.keyframes.last().is_some_and(|frame| frame.part == part) {
            return;
        }
        if self.keyframes.len() == KEYFRAMES {
            self.spacing *= 2;
            let spacing = self.spacing;
            self.keyframes.retain(|frame| frame.part.is_multiple_of(spacing));
            if !part.is_multiple_of(spacing) {
                return;
            }
        }
        match serde_json::to_vec(before) {
            Ok(text) => self.keyframes.push(Keyframe { part, packed: pack(&text, Compression::fast()) }),
            // Without this one it is a longer way from the one before.
            Err(error) => tracing::warn!(%error, "no keyframe"),
        }
    }

    /// The part that began is laid down there.
    pub fn push(&mut self, place: Place) {
        self.places.push(place);
    }

    /// Marks what is new in the journal, and chapters of the lesson that have begun.
    pub fn note(&mut self, model: &Model) {
        let known = self.marks.len();
        let asked = model.journal.since(self.told).filter(|entry| entry.who != Who::Lab);
        self.marks.extend(asked.map(|entry| Mark { at: entry.at, text: entry.text.clone() }));
        self.told = model.journal.written();
        if let Some(script) = &model.script {
            let new = script.chapters_begun.iter().skip(self.chapters);
            let named = new.filter_map(|(step, at)| Some((script.chapter_of(*step)?, *at)));
            self.marks.extend(named.map(|((n, name), at)| Mark { at, text: format!("chapter {n}: {name}") }));
            self.chapters = script.chapters_begun.len();
        }
        self.marks[known..].sort_by_key(|mark| mark.at);
    }

    /// The last moment on it.
    pub fn end(&self) -> Stamp {
        self.places.last().map_or(Stamp(0), |place| place.to)
    }

    /// Bytes of memory that the keyframes take.
    pub fn kept_bytes(&self) -> usize {
        self.keyframes.iter().map(|frame| frame.packed.len()).sum()
    }

    /// The mark after or before a moment.
    pub fn mark(&self, from: Stamp, forward: bool) -> Option<&Mark> {
        if forward {
            self.marks.iter().find(|mark| mark.at > from)
        } else {
            self.marks.iter().rev().find(|mark| mark.at < from)
        }
    }

    /// The last keyframe no later than a moment: the number of the part it stands before, and the model.
    fn keyframe(&self, at: Stamp) -> (usize, Model) {
        let part = self.places.partition_point(|place| place.from <= at).saturating_sub(1);
        let frames = self.keyframes.iter().rev().filter(|frame| frame.part <= part);
        let read = |frame: &Keyframe| {
            let (text, _) = unpack(&frame.packed).ok()?;
            Some((frame.part, serde_json::from_slice(&text).ok()?))
        };
        frames.map(read).find_map(|found| found).unwrap_or_default()
    }
}

/// The model after the messages of one part. The error: why they can't come next. No clock goes backward, and no sum of the books goes
/// down but where a lab is brought up or reset.
fn follow_on(before: &Model, messages: Vec<(Stamp, Msg)>) -> Result<Model, String> {
    let mut model = before.clone();
    for (at, msg) in messages {
        if at < model.now {
            return Err(format!("its time goes backward, from {} to {} ms", model.now.0 / 1_000, at.0 / 1_000));
        }
        let (told, anew) = (sums(&model), model.stage == Stage::Starting || model.is_resetting());
        update(&mut model, at, msg);
        if !anew && told.iter().zip(sums(&model)).any(|(before, now)| now < *before) {
            return Err("a sum of its books goes down, and no reset is under way".to_owned());
        }
    }
    Ok(model)
}

fn sums(model: &Model) -> [u64; 5] {
    let c = model.ledger.counts();
    [c.tried, c.acked, c.acked_with_warning, c.failed, c.unknown]
}

/// Where one is in a recording: the model at a moment.
#[derive(Debug)]
pub struct Player {
    /// What was known then.
    pub model: Model,
    at: Stamp,
    /// The next part to be taken, and what is left of the one at hand, last message first.
    next: usize,
    rest: Vec<(Stamp, Msg)>,
}

impl Player {
    /// At the beginning.
    pub fn new() -> Self {
        Self { model: Model::default(), at: Stamp(0), next: 0, rest: Vec::new() }
    }

    /// The moment.
    pub fn at(&self) -> Stamp {
        self.at
    }

    /// Goes to a moment (at most the recording's end).
    pub fn seek(&mut self, reel: &Reel, film: &impl Film, to: Stamp) -> Result<(), String> {
        let to = to.min(reel.end());
        if to < self.at || to.ms_since(self.at) > NEAR_MS {
            (self.next, self.model) = reel.keyframe(to);
            self.rest = Vec::new();
        }
        while let Some((at, msg)) = self.following(reel, film)? {
            if at > to {
                self.rest.push((at, msg));
                break;
            }
            update(&mut self.model, at, msg);
        }
        // Between two messages the clock goes on.
        self.model.now = self.model.now.max(to);
        self.at = to;
        Ok(())
    }

    /// Goes on to the next message that changes more than the clock and the charts; says whether there was one.
    pub fn step(&mut self, reel: &Reel, film: &impl Film) -> Result<bool, String> {
        while let Some((at, msg)) = self.following(reel, film)? {
            let news = !msg.is_routine();
            update(&mut self.model, at, msg);
            self.at = at;
            if news {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn following(&mut self, reel: &Reel, film: &impl Film) -> Result<Option<(Stamp, Msg)>, String> {
        while self.rest.is_empty() {
            let Some(place) = reel.places.get(self.next) else { return Ok(None) };
            let bytes = film.part(place).map_err(|error| error.to_string())?;
            self.rest = read_part(&bytes)?.0;
            self.rest.reverse();
            self.next += 1;
        }
        Ok(self.rest.pop())
    }
}

impl Default for Player {
    fn default() -> Self {
        Self::new()
    }
}
