//! What was commanded and when, kept as the steps of a scenario: a seed that failed can be played again, looked at on the screen, and
//! cut down by hand. Knows the file's form; runs nothing.

use std::collections::BTreeMap;

use crate::chaos::Cast;
use crate::model::command::Command;
use crate::model::msg::{NodePlan, Topology, WriterPlan};
use crate::scenario::draft::{Draft, Entry};

/// Steps of a file, fewer than a scenario may have: what is older is left out, whole rounds at a time.
const STEPS_MAX: usize = 900;
/// Shorter pauses are not worth a step.
const PAUSE_MIN_MS: u64 = 5;

/// A round as it went.
#[derive(Clone, Debug, PartialEq)]
struct Chapter {
    cast: Cast,
    entries: Vec<Entry>,
}

/// The diary of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Diary {
    seed: u64,
    settings: BTreeMap<String, String>,
    writer: WriterPlan,
    chapters: Vec<Chapter>,
}

impl Diary {
    /// An empty one.
    pub fn new(seed: u64, settings: BTreeMap<String, String>, writer: WriterPlan) -> Self {
        Self { seed, settings, writer, chapters: Vec::new() }
    }

    /// A round begins, on a cluster that is whole.
    pub fn round(&mut self, number: u32, heading: &str, cast: Cast) {
        let entries = vec![Entry::Say(format!("# Round {number}\n{heading}"))];
        self.chapters.push(Chapter { cast, entries });
        let kept = |chapters: &[Chapter]| chapters.iter().map(|c| c.entries.len()).sum::<usize>();
        while self.chapters.len() > 1 && kept(&self.chapters) > STEPS_MAX / 2 {
            self.chapters.remove(0);
        }
    }

    fn add(&mut self, entry: Entry) {
        if let Some(chapter) = self.chapters.last_mut() {
            chapter.entries.push(entry);
        }
    }

    /// So long nothing was commanded.
    pub fn paused(&mut self, ms: u64) {
        if ms >= PAUSE_MIN_MS {
            self.add(Entry::Pause(ms));
        }
    }

    /// This was commanded, and the lab took it.
    pub fn commanded(&mut self, command: &Command) {
        // Refused or failed where the cluster stands otherwise than it did: the chaos goes on all the same.
        self.add(Entry::Do { commands: vec![command.clone()], together: false, may_fail: true });
    }

    /// This was commanded while others still came back: they go together, where nothing else came between.
    pub fn commanded_beside(&mut self, command: &Command) {
        let returns = |c: &Command| matches!(c, Command::Rejoin { .. });
        match self.chapters.last_mut().and_then(|chapter| chapter.entries.last_mut()) {
            Some(Entry::Do { commands, together, .. }) if returns(command) && commands.iter().all(returns) => {
                commands.push(command.clone());
                *together = true;
            }
            _ => self.commanded(command),
        }
    }

    /// From here on everything must come to stream within a time, and writes go on. By number, not by name: when it is played again
    /// another node may be elected.
    pub fn must_be_whole(&mut self, standbys: usize, within_ms: u64) {
        self.add(Entry::Wait { condition: format!("streaming = {standbys}"), within_ms });
        self.add(Entry::Wait { condition: "commits_per_s > 0".to_owned(), within_ms });
    }

    /// Every standby must come to have all there is.
    pub fn must_be_level(&mut self, within_ms: u64) {
        self.add(Entry::Wait { condition: "lagging = 0".to_owned(), within_ms });
    }

    /// The verdict asked for just before, and what else is judged with it (chaos/judge.rs).
    pub fn must_be_sound(&mut self) {
        for condition in ["verdict = sound", "elections_safe = yes", "strays = 0", "differing = 0"] {
            self.add(Entry::Expect(condition.to_owned()));
        }
    }

    /// The file's text. `why`: what went wrong at its end.
    pub fn text(&self, why: &str) -> String {
        let Some(first) = self.chapters.first() else { return String::new() };
        let entries = self.chapters.iter().flat_map(|c| &c.entries);
        let draft = Draft {
            title: format!("Chaos of seed {}", self.seed),
            summary: why.to_owned(),
            topology: Topology { nodes: first.cast.plan(), settings: self.settings.clone() },
            writer: self.writer.clone(),
            entries: entries.take(STEPS_MAX).cloned().collect(),
        };
        draft.text()
    }
}

impl Cast {
    /// The cluster that a round began with.
    fn plan(&self) -> Vec<NodePlan> {
        let primary = NodePlan { name: self.primary.clone(), upstream: None };
        let standby =
            |name: &crate::model::NodeName| NodePlan { name: name.clone(), upstream: Some(self.primary.clone()) };
        std::iter::once(primary).chain(self.standbys.iter().map(standby)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::Chaos;
    use crate::model::NodeName;
    use crate::model::script::StepKind;
    use proptest::prelude::*;

    fn cast() -> Cast {
        Cast { primary: "s1".parse().unwrap(), standbys: ["p", "s2"].map(|n| n.parse().unwrap()).into() }
    }

    fn diary(seed: u64, rounds: u32) -> Diary {
        let settings = BTreeMap::from([("wal_sender_timeout".to_owned(), "2s".to_owned())]);
        let mut diary = Diary::new(seed, settings, WriterPlan::default());
        let chaos = Chaos::new(seed, Vec::new());
        for number in 1..=rounds {
            let round = chaos.round(number, &cast());
            diary.round(number, "a \"heading\"\nof two lines", cast());
            for act in &round.acts {
                diary.paused(act.after_ms);
                diary.commanded(&act.command);
            }
            diary.must_be_whole(2, 5_000);
            diary.must_be_level(10_000);
            diary.commanded(&Command::Verify);
            diary.must_be_sound();
        }
        diary
    }

    proptest! {
        /// What is written reads back as a scenario, with every command in its place.
        #[test]
        fn a_diary_is_a_scenario(seed: u64, rounds in 1u32..40) {
            let diary = diary(seed, rounds);
            let lesson = crate::scenario::parse("chaos", &diary.text("s1 \"broke\"\n it\\")).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(lesson.topology.primary().map(NodeName::as_str), Some("s1"));
            prop_assert_eq!(lesson.topology.nodes.len(), 3);
            prop_assert_eq!(&lesson.writer, &WriterPlan::default());
            prop_assert_eq!(&lesson.topology.settings["wal_sender_timeout"], "2s");
            let done: Vec<Command> = lesson.script.steps.iter().filter_map(|s| match &s.kind {
                StepKind::Do(commands) => { assert!(s.may_fail); commands.first().cloned() }
                _ => None,
            }).collect();
            let wanted: Vec<Command> = diary.chapters.iter().flat_map(|c| &c.entries).filter_map(|e| match e {
                Entry::Do { commands, .. } => commands.first().cloned(),
                _ => None,
            }).collect();
            prop_assert_eq!(done, wanted);
        }
    }

    #[test]
    fn who_comes_back_beside_others_goes_with_them() {
        let mut diary = Diary::new(1, BTreeMap::new(), WriterPlan::default());
        diary.round(1, "heading", cast());
        diary.commanded(&Command::Heal(None));
        for command in ["rejoin p", "rejoin s1", "follow s2 p"] {
            diary.commanded_beside(&command.parse().unwrap());
        }
        diary.commanded(&"rejoin s2".parse().unwrap());
        let text = diary.text("why");
        let steps: Vec<&str> = text.lines().filter(|line| line.starts_with("do = ")).collect();
        let one = |command: &str| format!("do = \"{command}\"\nmay_fail = true");
        assert!(text.contains("do = [\"rejoin p\", \"rejoin s1\"]\ntogether = true\nmay_fail = true"), "{text}");
        assert!(["heal", "follow s2 p", "rejoin s2"].iter().all(|c| text.contains(&one(c))), "{text}");
        assert_eq!(steps.len(), 4, "{text}");
    }

    #[test]
    fn a_long_one_keeps_its_last_rounds() {
        let diary = diary(3, 500);
        assert!(crate::scenario::parse("chaos", &diary.text("why")).is_ok());
        let text = diary.text("why");
        assert!(text.contains("Round 500") && text.contains("Round 499") && !text.contains("Round 1\n"), "{text}");
        let judged = ["verdict = sound", "elections_safe = yes", "strays = 0", "differing = 0"];
        let wanted: String = judged.iter().map(|c| format!("[[step]]\nexpect = \"{c}\"\n\n")).collect();
        assert!(text.ends_with(&wanted), "{text}");
    }
}
