//! Moving about in a recording: what a move does, and time that goes on at its pace.

use tokio::time::Instant;

use crate::keys::past::Wind;
use crate::model::{Model, Stamp};
use crate::recording::reel::Film;
use crate::recording::{Player, Reel};
use crate::ui::past::{PACE, Past, SPEEDS, share};

/// Where one is in a recording, and how time goes.
#[derive(Debug)]
pub struct Winder {
    player: Player,
    /// Since when time goes on, and from which moment; None while it stands.
    playing: Option<(Instant, Stamp)>,
    speed: usize,
}

impl Winder {
    /// At a moment, where time stands.
    pub fn at(reel: &Reel, film: &impl Film, at: Stamp) -> Result<Self, String> {
        let mut player = Player::new();
        player.seek(reel, film, at)?;
        Ok(Self { player, playing: None, speed: PACE })
    }

    /// The model of the moment.
    pub fn model(&self) -> &Model {
        &self.player.model
    }

    /// Whether time goes on.
    pub fn is_playing(&self) -> bool {
        self.playing.is_some()
    }

    /// What the screen tells of it.
    pub fn told(&self, reel: &Reel, live: bool) -> Past {
        told(reel, self.player.at(), self.is_playing(), self.speed, live)
    }

    /// Time goes on for as long as it did; at the end it stands.
    pub fn go_on(&mut self, reel: &Reel, film: &impl Film) -> Result<(), String> {
        let Some((since, from)) = self.playing else { return Ok(()) };
        let passed = since.elapsed().as_secs_f64() * SPEEDS[self.speed] * 1e6;
        self.player.seek(reel, film, Stamp(from.0.saturating_add(passed as u64)))?;
        if self.player.at() >= reel.end() {
            self.playing = None;
        }
        Ok(())
    }

    /// Makes a move. To leave is the caller's.
    pub fn wind(&mut self, wind: Wind, reel: &Reel, film: &impl Film) -> Result<(), String> {
        let here = self.player.at();
        match wind {
            Wind::Play if self.is_playing() => self.playing = None,
            Wind::Play => {
                if here >= reel.end() {
                    self.player.seek(reel, film, Stamp(0))?;
                }
                self.playing = Some((Instant::now(), self.player.at()));
            }
            Wind::By(seconds) => self.seek(reel, film, Stamp(here.0.saturating_add_signed(seconds * 1_000_000)))?,
            Wind::Step => {
                self.playing = None;
                self.player.step(reel, film)?;
            }
            Wind::Mark { forward } => {
                let there = reel.mark(here, forward).map(|mark| mark.at);
                self.seek(reel, film, there.unwrap_or(if forward { reel.end() } else { Stamp(0) }))?;
            }
            Wind::Pace { faster } => {
                let last = SPEEDS.len() - 1;
                self.speed = if faster { (self.speed + 1).min(last) } else { self.speed.saturating_sub(1) };
                self.playing = self.playing.map(|_| (Instant::now(), here));
            }
            Wind::Home => self.seek(reel, film, Stamp(0))?,
            Wind::End => self.seek(reel, film, reel.end())?,
            Wind::Leave => {}
        }
        Ok(())
    }

    fn seek(&mut self, reel: &Reel, film: &impl Film, to: Stamp) -> Result<(), String> {
        self.player.seek(reel, film, to)?;
        self.playing = self.playing.map(|_| (Instant::now(), self.player.at()));
        Ok(())
    }
}

/// What the screen tells of a moment of a recording.
pub fn told(reel: &Reel, at: Stamp, playing: bool, speed: usize, live: bool) -> Past {
    let end = reel.end();
    let mut marks: Vec<u16> = reel.marks.iter().map(|mark| share(mark.at, end)).collect();
    marks.dedup();
    let last = reel.mark(Stamp(at.0.saturating_add(1)), false).map_or(String::new(), |mark| mark.text.clone());
    Past { at, end, playing, speed, live, marks, last }
}
