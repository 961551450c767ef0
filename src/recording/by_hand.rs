//! What a person did in a lab that was recorded, as a scenario: the cluster, the commands with the pauses between them, and what the
//! verdict was. Knows no files.

use crate::model::admit::admit;
use crate::model::command::Command;
use crate::model::msg::{Msg, OpId, Opening, Origin, Playback};
use crate::model::verdict::Verdict;
use crate::model::{Model, Stamp, update};
use crate::scenario::draft::{Draft, Entry};

use super::Header;

/// Steps of a file, fewer than a scenario may have.
const STEPS_MAX: usize = 950;
/// Shorter pauses are not worth a step.
const PAUSE_MIN_MS: u64 = 50;

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ByHand {
    /// The scenario.
    pub draft: Draft,
    /// The lesson that was played beside it, whose own acts are not in it.
    pub lesson: Option<String>,
    /// Whether there were more commands than a scenario may have.
    pub cut: bool,
}

/// Makes the scenario; the error says why there is none.
pub fn scenario(header: &Header, messages: impl Iterator<Item = (Stamp, Msg)>) -> Result<ByHand, String> {
    let mut hand = Hand::default();
    for (at, msg) in messages {
        hand.take(at, msg);
    }
    hand.close();
    let opening = hand.opening.ok_or("nothing is in this recording")?;
    if hand.entries.iter().all(|entry| !matches!(entry, Entry::Do { .. })) {
        return Err(match opening.script {
            Some(script) => format!("nothing was done by hand in this recording; it shows the lesson {}", script.name),
            None => "nothing was done by hand in this recording".to_owned(),
        });
    }
    let cut = hand.entries.len() > STEPS_MAX;
    hand.entries.truncate(STEPS_MAX);
    end(&mut hand.entries);
    let draft = Draft {
        title: format!("By hand, {}", header.began.get(..10).unwrap_or_default()),
        summary: format!("What was done by hand in lab {}", header.lab),
        topology: opening.topology.clone(),
        writer: opening.writer.clone(),
        entries: hand.entries,
    };
    Ok(ByHand { draft, lesson: opening.script.map(|script| script.name), cut })
}

/// The nodes are read at the end; a verdict that nobody asked for then must not be broken, at least.
fn end(entries: &mut Vec<Entry>) {
    if !matches!(entries.last(), Some(Entry::Expect(_))) {
        entries.push(Entry::Do { commands: vec![Command::Verify], together: false, may_fail: false });
        entries.push(Entry::Expect("verdict != broken".to_owned()));
    }
}

/// Commands given while the one before was still under way, and what became of them.
#[derive(Default)]
struct Group {
    commands: Vec<Command>,
    ops: Vec<OpId>,
    failed: bool,
    /// When the last of them was done; None while one is under way.
    ended: Option<Stamp>,
}

/// The recording as it is read.
#[derive(Default)]
struct Hand {
    model: Model,
    opening: Option<Opening>,
    entries: Vec<Entry>,
    group: Option<Group>,
    /// Since when nothing was commanded; None before the lab is up.
    idle: Option<Stamp>,
}

impl Hand {
    fn take(&mut self, at: Stamp, msg: Msg) {
        if let Msg::Open(opening) = &msg {
            self.opening = Some((**opening).clone());
        }
        let command = match &msg {
            Msg::Command(command, Origin::You | Origin::Outside(_)) if admit(&self.model, command).is_ok() => {
                Some(command.clone())
            }
            // Taking a lesson to a chapter makes the cluster anew.
            Msg::Play(Playback::Jump(_) | Playback::Restart) if !self.model.is_resetting() => Some(Command::Reset),
            _ => None,
        };
        if command.is_some() && self.group.as_ref().is_some_and(|g| g.ended.is_some()) {
            self.close();
        }
        let first = self.model.next_op;
        update(&mut self.model, at, msg);
        if let Some(command) = command {
            self.begin(at, command, first);
        }
        self.look(at);
        if self.idle.is_none() && self.model.stage == crate::model::Stage::Live {
            self.idle = Some(at);
        }
    }

    fn begin(&mut self, at: Stamp, command: Command, first: u64) {
        if self.group.is_none() {
            let pause = self.idle.map_or(0, |since| at.ms_since(since));
            if pause >= PAUSE_MIN_MS {
                self.entries.push(Entry::Pause(pause));
            }
        }
        let group = self.group.get_or_insert_default();
        group.commands.push(command);
        group.ops.extend((first..self.model.next_op).map(OpId));
    }

    /// Whether the group's operations are over.
    fn look(&mut self, at: Stamp) {
        let Some(group) = self.group.as_mut().filter(|g| g.ended.is_none()) else { return };
        group.failed |= group.ops.iter().any(|id| self.model.ended.get(id).is_some_and(Option::is_some));
        if !group.ops.iter().any(|id| self.model.ops.contains_key(id)) {
            group.ended = Some(at);
        }
    }

    /// The group is complete.
    fn close(&mut self) {
        let Some(group) = self.group.take() else { return };
        // What was still under way at the recording's end may wait for something that never came.
        let may_fail = group.failed || group.ended.is_none();
        self.idle = group.ended.or(self.idle);
        let verified = group.commands.contains(&Command::Verify) && group.ended.is_some();
        let together = group.commands.len() > 1;
        self.entries.push(Entry::Do { commands: group.commands, together, may_fail });
        if verified && let Some(found) = &self.model.verification {
            self.entries.push(Entry::Expect(expected(&found.verdict)));
        }
    }
}

fn expected(verdict: &Verdict) -> String {
    match verdict.word() {
        // What could not be known then may be known another time.
        "unknown" => "verdict != broken".to_owned(),
        word => format!("verdict = {word}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::{Look, NodeState, Observation};
    use crate::model::msg::{Happened, Outcome, Topology, WriterPlan};

    fn opening() -> Msg {
        Msg::Open(Box::new(Opening {
            lab: "lab".into(),
            runtime: "fake".into(),
            source: String::new(),
            topology: Topology::primary_with(1),
            script: None,
            read_only: false,
            writer: WriterPlan::default(),
            disk_floor: 0,
        }))
    }

    fn up() -> Msg {
        let up = Happened::BroughtUp {
            ms: 500,
            postgres: "18.6".into(),
            system_identifier: 7,
            direct_links: None,
            no_freezer: None,
        };
        Msg::Done(OpId(0), Outcome { result: Ok(up), steps: Vec::new() })
    }

    fn runs(node: &str) -> Msg {
        Msg::Observed(Observation::Node(node.parse().unwrap(), Look::State(NodeState::Running)))
    }

    fn you(text: &str) -> Msg {
        Msg::Command(text.parse().unwrap(), Origin::You)
    }

    fn done(id: u64, result: Result<Happened, String>) -> Msg {
        Msg::Done(OpId(id), Outcome { result, steps: Vec::new() })
    }

    fn of(messages: Vec<(u64, Msg)>) -> Result<ByHand, String> {
        let all = messages.into_iter().map(|(ms, msg)| (Stamp(ms * 1_000), msg));
        scenario(&Header { lab: "lab".into(), began: "2026-01-02T03:04".into(), ..Header::default() }, all)
    }

    fn doing(commands: &[&str], together: bool, may_fail: bool) -> Entry {
        Entry::Do { commands: commands.iter().map(|c| c.parse().unwrap()).collect(), together, may_fail }
    }

    #[test]
    fn commands_become_steps_with_the_pauses_between_them() {
        let found = of(vec![
            (0, opening()),
            (100, you("pause")),
            (400, runs("p")),
            (400, runs("s1")),
            (500, up()),
            (2_500, you("rate 50")),
            (2_600, Msg::Command(Command::Pause, Origin::Lab)),
            (3_400, Msg::Command("commit on".parse().unwrap(), Origin::Outside(7))),
            (3_500, you("kill s1")),
            (3_600, you("kill p")),
            (3_700, done(1, Ok(Happened::Plain))),
            (3_900, done(2, Err("no".into()))),
            (5_900, you("resume")),
        ]);
        let entries = found.unwrap().draft.entries;
        assert_eq!(
            entries,
            [
                Entry::Pause(2_000),
                doing(&["rate 50"], false, false),
                Entry::Pause(900),
                doing(&["commit on"], false, false),
                Entry::Pause(100),
                doing(&["kill s1", "kill p"], true, true),
                Entry::Pause(2_000),
                doing(&["resume"], false, false),
                doing(&["verify"], false, false),
                Entry::Expect("verdict != broken".into()),
            ]
        );
    }

    #[test]
    fn where_nothing_was_done_there_is_no_scenario() {
        let why = of(vec![(0, opening()), (500, up()), (600, you("thaw s1"))]).unwrap_err();
        assert_eq!(why, "nothing was done by hand in this recording");
    }
}
