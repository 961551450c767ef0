//! A lesson that goes on by itself: how long a text stays. Counted in model time, so that a recording shows the same. Knows no keys.

use super::{Progress, Script, StepKind};
use crate::model::Stamp;

/// How fast texts are read, as a multiple of the usual pace.
pub const SPEEDS: [f64; 7] = [0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0];
/// The usual pace among [`SPEEDS`].
const USUAL: i8 = 2;
/// To find into a new text, and to look up from it at the cluster.
const LOOK_MS: usize = 3_000;
/// For each word: some 190 in a minute, as technical prose is read.
const WORD_MS: usize = 320;

impl Script {
    /// How fast texts are read now, as a multiple of the usual pace.
    pub fn pace(&self) -> f64 {
        let last = SPEEDS.len() - 1;
        SPEEDS[usize::try_from(self.speed.saturating_add(USUAL)).unwrap_or(0).min(last)]
    }

    /// A step faster or slower, as far as there is one.
    pub(in crate::model) fn change_pace(&mut self, faster: bool) {
        let most = SPEEDS.len() as i8 - 1 - USUAL;
        let wanted = if faster { self.speed.saturating_add(1) } else { self.speed.saturating_sub(1) };
        self.speed = wanted.clamp(-USUAL, most);
    }

    /// Where the lesson goes on by itself: in how many milliseconds, and how many the text has in all. None where it waits for
    /// the person, for a condition, or for one who reads an earlier text again.
    pub fn goes_on_in(&self, now: Stamp) -> Option<(u64, u64)> {
        let (Progress::Reading(since), Some(auto), None) = (&self.progress, self.auto, self.reread) else {
            return None;
        };
        let whole = (self.words() * WORD_MS + LOOK_MS) as f64 / self.pace();
        let whole = whole as u64;
        Some((whole.saturating_sub(now.ms_since((*since).max(auto))), whole))
    }

    /// Words of the text that is read now.
    fn words(&self) -> usize {
        match self.step().map(|s| &s.kind) {
            Some(StepKind::Say(text)) => words(text),
            Some(StepKind::Reveal(of)) => self.question(*of).map_or(0, |question| {
                let right = question.choices.get(question.answer).map_or(0, |choice| words(choice));
                words(&question.text) + right + words(&question.why)
            }),
            _ => 0,
        }
    }
}

/// What is spoken, without the marks of markdown.
fn words(text: &str) -> usize {
    text.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count()
}
