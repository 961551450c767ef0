//! The only place where the model changes. Dispatch only: the rooms are beside it.

mod aftermath;
mod commands;
mod disk;
mod handing_over;
mod later;
mod outcomes;
mod playing;
mod stragglers;
mod watching;
mod wording;

use super::journal::{Entry, Tone, Who};
use super::msg::{Effect, Msg, Origin, Reached};
use super::{Model, Stamp};

/// Takes in what happened at `at`, and says what is to be done about it.
pub fn update(model: &mut Model, at: Stamp, msg: Msg) -> Vec<Effect> {
    model.now = model.now.max(at);
    let mut effects = match msg {
        Msg::Open(opening) => commands::open(model, *opening),
        Msg::Command(command, origin) => commands::requested(model, command, origin),
        Msg::Play(key) => playing::key(model, key),
        Msg::Observed(observation) => watching::observed(model, observation),
        Msg::Tried(ranges) => watching::tried(model, &ranges),
        Msg::Wrote(answers) => watching::wrote(model, &answers),
        Msg::Pulse(pulse) => watching::pulse(model, pulse),
        Msg::Phase(node, text) => watching::phase(model, node.as_ref(), text),
        Msg::Reached(id, Reached::Counted(only)) => outcomes::counted(model, id, &only),
        Msg::Reached(id, reached) => handing_over::reached(model, id, reached),
        Msg::Probed(node, probe) => handing_over::probed(model, &node, &probe),
        Msg::FirstAck(node) => {
            handing_over::first_ack(model, &node);
            model.writer.arrived = Some(node);
            Vec::new()
        }
        Msg::SessionEnded(name, why) => outcomes::session_lost(model, &name, &why),
        Msg::Done(id, outcome) => outcomes::done(model, id, outcome),
        Msg::Tick => watching::tick(model),
        Msg::StoodStill(ms) => watching::stood_still(model, ms),
    };
    model.close_dead_sessions();
    effects.extend(later::take_up(model));
    effects.extend(playing::advance(model));
    super::fault_log::keep(model);
    super::outage::keep(model);
    disk::hold_writer(model, &mut effects);
    effects
}

impl Model {
    /// Writes a sentence into the journal.
    fn say(&mut self, who: Who, tone: Tone, text: impl Into<String>) {
        self.note(who, tone, text, Vec::new());
    }

    /// The same, with the steps behind it.
    fn note(&mut self, who: Who, tone: Tone, text: impl Into<String>, steps: Vec<String>) {
        let at = self.now;
        self.journal.add(Entry { at, who, tone, text: text.into(), steps });
    }
}

impl From<Origin> for Who {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::You => Self::You,
            Origin::Script => Self::Script,
            Origin::Lab => Self::Lab,
            Origin::Outside(_) => Self::Outside,
        }
    }
}
