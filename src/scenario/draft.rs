//! A scenario that a program writes: cluster, writer and steps as values, and the file's text. Knows nothing of who writes one.

use crate::model::command::{Command, Rate};
use crate::model::msg::{NodePlan, Topology, WriterPlan};

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Narration.
    Say(String),
    /// Nothing for so many milliseconds.
    Pause(u64),
    /// Commands.
    Do {
        /// In this order, or all at once.
        commands: Vec<Command>,
        /// All at once.
        together: bool,
        /// They may be refused or fail.
        may_fail: bool,
    },
    /// Goes on when this holds.
    Wait {
        /// What must come to hold.
        condition: String,
        /// In what time.
        within_ms: u64,
    },
    /// This must hold.
    Expect(String),
}

/// A scenario to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// Its title.
    pub title: String,
    /// What one will see, in a line.
    pub summary: String,
    /// The cluster.
    pub topology: Topology,
    /// The writer as it begins.
    pub writer: WriterPlan,
    /// The steps.
    pub entries: Vec<Entry>,
}

impl Draft {
    /// The file's text.
    pub fn text(&self) -> String {
        self.written(&[]).0
    }

    /// The text with what `check` refuses left out (a comment says why), and what that was. The error: what can't be left out.
    pub fn checked(&self) -> Result<(String, Vec<String>), String> {
        let mut out: Vec<(usize, String)> = Vec::new();
        loop {
            let (text, lines) = self.written(&out);
            let complaints = super::check("export", &text).told;
            let Some(mistake) = complaints.iter().find(|c| c.weight == super::Weight::Mistake) else {
                out.sort();
                let told = out.iter().map(|(n, why)| format!("{}: {why}", in_words(&self.entries[*n])));
                return Ok((text, told.collect()));
            };
            // The entry that begins last before the place; each is left out once, so this comes to an end.
            let entry = lines.partition_point(|first| *first <= mistake.line).checked_sub(1);
            match entry.filter(|n| out.iter().all(|(known, _)| known != n)) {
                Some(n) => out.push((n, mistake.message.clone())),
                None => return Err(mistake.to_string()),
            }
        }
    }

    /// The text, and the line that each entry begins at.
    fn written(&self, left_out: &[(usize, String)]) -> (String, Vec<usize>) {
        let mut text = self.head();
        let (mut line, mut lines) = (text.lines().count() + 1, Vec::new());
        for (n, entry) in self.entries.iter().enumerate() {
            let why = left_out.iter().find(|(known, _)| *known == n);
            let piece = match why {
                Some((_, why)) => format!("# left out: {}\n# {}\n\n", one_line(&in_words(entry)), one_line(why)),
                None => step(entry),
            };
            lines.push(line);
            line += piece.lines().count();
            text.push_str(&piece);
        }
        (text, lines)
    }

    fn head(&self) -> String {
        let mut text = format!("title = {}\nsummary = {}\n\n", quoted(&self.title), quoted(&one_line(&self.summary)));
        text.extend(self.topology.nodes.iter().map(node));
        let settings = self.topology.settings.iter().filter(|(name, _)| super::settings::known(name).is_ok());
        let settings: String = settings.map(|(name, value)| format!("{} = {}\n", key(name), quoted(value))).collect();
        if !settings.is_empty() {
            text.push_str(&format!("[settings]\n{settings}\n"));
        }
        text + &writer(&self.writer)
    }
}

fn node(plan: &NodePlan) -> String {
    let follows = plan.upstream.as_ref().map_or(String::new(), |up| format!("follows = \"{up}\"\n"));
    format!("[[cluster.node]]\nname = \"{}\"\n{follows}\n", plan.name)
}

/// A setting's name may have a dot in it.
fn key(name: &str) -> String {
    if name.contains('.') { quoted(name) } else { name.to_owned() }
}

fn writer(plan: &WriterPlan) -> String {
    let rate = match plan.rate {
        Rate::Max => "\"max\"".to_owned(),
        Rate::PerSecond(n) => n.to_string(),
    };
    let (clients, level, paused) = (plan.clients, quoted(&plan.level), plan.paused);
    format!("[writer]\nclients = {clients}\nrate = {rate}\ncommit = {level}\npaused = {paused}\n\n")
}

fn step(entry: &Entry) -> String {
    let body = match entry {
        Entry::Say(text) => format!("say = {}", quoted(text)),
        Entry::Pause(ms) => format!("pause = \"{ms}ms\""),
        Entry::Do { commands, together, may_fail } => {
            let flag = |on: &bool, name: &str| if *on { format!("\n{name} = true") } else { String::new() };
            format!("do = {}{}{}", all(commands), flag(together, "together"), flag(may_fail, "may_fail"))
        }
        Entry::Wait { condition, within_ms } => {
            format!("wait = {}\nwithin = \"{within_ms}ms\"", quoted(condition))
        }
        Entry::Expect(condition) => format!("expect = {}", quoted(condition)),
    };
    format!("[[step]]\n{body}\n\n")
}

fn all(commands: &[Command]) -> String {
    match commands {
        [one] => quoted(&one.to_string()),
        many => format!("[{}]", many.iter().map(|c| quoted(&c.to_string())).collect::<Vec<_>>().join(", ")),
    }
}

fn in_words(entry: &Entry) -> String {
    match entry {
        Entry::Say(text) | Entry::Expect(text) => text.clone(),
        Entry::Pause(ms) => format!("pause {ms}ms"),
        Entry::Do { commands, .. } => commands.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        Entry::Wait { condition, .. } => condition.clone(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text in quotes; what looks like a variable is none.
fn quoted(text: &str) -> String {
    toml::Value::String(text.replace("${", "$${")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(commands: &[&str]) -> Draft {
        let entry = |text: &&str| Entry::Do { commands: vec![text.parse().unwrap()], together: false, may_fail: false };
        Draft {
            title: "T".into(),
            summary: "S".into(),
            topology: Topology::primary_with(2),
            entries: commands.iter().map(entry).collect(),
            ..Draft::default()
        }
    }

    #[test]
    fn what_check_complains_of_is_left_out_and_said() {
        let draft =
            draft(&["set work_mem '8MB'", "thaw s1", "freeze s1", "thaw s1", "set archive_command 'x'", "verify"]);
        let (text, out) = draft.checked().unwrap();
        assert_eq!(super::super::check("export", &text), super::super::Complaints::default(), "{text}");
        assert!(
            out.len() == 2 && out[0].starts_with("thaw s1: ") && out[1].starts_with("set archive_command"),
            "{out:?}"
        );
        assert!(text.contains("# left out: thaw s1\n") && text.matches("do = \"thaw s1\"").count() == 1, "{text}");
    }

    #[test]
    fn texts_come_back_as_they_were() {
        let said = "# A \"heading\"\n\nwith ${a} variable, a \\ and '''quotes''' and \"\"\"more\"\"\"";
        let command: Command = "sql p SELECT '${x}', E'\\n' \"q\"".parse().unwrap();
        let entries = vec![
            Entry::Say(said.to_owned()),
            Entry::Do { commands: vec![command.clone()], together: false, may_fail: true },
        ];
        let text = Draft { entries, ..draft(&[]) }.text();
        let lesson = super::super::parse("t", &text).unwrap_or_else(|e| panic!("{e}"));
        let kinds: Vec<_> = lesson.script.steps.iter().map(|s| s.kind.clone()).collect();
        assert_eq!(
            kinds,
            [crate::model::script::StepKind::Say(said.to_owned()), crate::model::script::StepKind::Do(vec![command])]
        );
    }
}
