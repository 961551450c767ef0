//! What the person looks at: focus, selection, popups, scroll. Never recorded, never part of the model, so that
//! looking at the past doesn't move the cursor. Knows no keys and draws nothing.

use std::collections::BTreeMap;

use super::past::Past;
use super::theme::{ColourMode, Glyphs, Shade, Theme};
use crate::model::command::Command;
use crate::model::journal::Tone;
use crate::model::script::Script;
use crate::model::sync_rule::SyncRule;
use crate::model::{Model, Node, NodeName};

/// A panel of the main screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Panel {
    /// The nodes and the links between them.
    Cluster,
    /// The replication ladder.
    Replication,
    /// The commits that wait.
    Commits,
    /// The rule in words.
    Words,
    /// The books.
    Writes,
    /// The chart of commit latency.
    Latency,
    /// The chart of commits per second.
    Throughput,
    /// What slots keep, and the room there is.
    Slots,
    /// What happened.
    Journal,
    /// The lesson.
    Lesson,
}

impl Panel {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::Cluster,
        Self::Replication,
        Self::Commits,
        Self::Words,
        Self::Writes,
        Self::Latency,
        Self::Throughput,
        Self::Slots,
        Self::Journal,
        Self::Lesson,
    ];

    /// Its name where several share a title.
    pub fn short(self) -> &'static str {
        match self {
            Self::Replication => "Ladder",
            Self::Commits => "Waiting",
            Self::Words => "Words",
            Self::Latency => "Latency",
            Self::Throughput => "Rate",
            Self::Slots => "Slots",
            _ => self.title(),
        }
    }

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Replication => "Replication",
            Self::Commits => "Commits waiting",
            Self::Words => "In words",
            Self::Writes => "Writes",
            Self::Latency => "Commit latency",
            Self::Throughput => "Throughput",
            Self::Slots => "Slots and disk",
            Self::Journal => "Journal",
            Self::Lesson => "Lesson",
        }
    }
}

/// One line of text being typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// The text.
    pub text: String,
    /// The cursor, as a byte offset at a character's boundary.
    pub cursor: usize,
}

impl Input {
    /// With this text, the cursor at its end.
    pub fn with(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { cursor: text.len(), text }
    }

    /// Types one or more characters; control characters become blanks.
    pub fn insert(&mut self, text: &str) {
        for c in text.chars().take(10_000) {
            let c = if c.is_control() { ' ' } else { c };
            self.text.insert(self.cursor, c);
            self.cursor += c.len_utf8();
        }
    }

    /// Takes the character before the cursor away.
    pub fn backspace(&mut self) {
        if let Some(c) = self.text[..self.cursor].chars().next_back() {
            self.cursor -= c.len_utf8();
            self.text.remove(self.cursor);
        }
    }

    /// Takes the character under the cursor away.
    pub fn delete(&mut self) {
        if self.cursor < self.text.len() {
            self.text.remove(self.cursor);
        }
    }

    /// Takes the word before the cursor away.
    pub fn delete_word(&mut self) {
        let kept = self.text[..self.cursor].trim_end().rfind(' ').map_or(0, |i| i + 1);
        self.text.replace_range(kept..self.cursor, "");
        self.cursor = kept;
    }

    /// Moves the cursor by a character.
    pub fn step(&mut self, right: bool) {
        let next = if right {
            self.text[self.cursor..].chars().next().map(|c| self.cursor + c.len_utf8())
        } else {
            self.text[..self.cursor].chars().next_back().map(|c| self.cursor - c.len_utf8())
        };
        self.cursor = next.unwrap_or(self.cursor);
    }
}

/// What is to be confirmed.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// A command that can't be undone.
    Run(Command),
    /// What becomes of the lab.
    Quit,
}

/// The rule being put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleDraft {
    /// 0 off, 1 first, 2 any.
    pub kind: u8,
    /// How many must confirm.
    pub k: u32,
    /// Names in order, and whether each is listed.
    pub names: Vec<(String, bool)>,
    /// The line the cursor is on: kind, number, then the names.
    pub line: usize,
}

impl RuleDraft {
    /// Begins with the rule in force and the standbys there are.
    pub fn new(model: &Model) -> Self {
        let rule = model.serving_rule().unwrap_or_default();
        let mut names: Vec<(String, bool)> = rule.names().iter().map(|n| (n.clone(), true)).collect();
        let server = model.serving();
        for node in model.nodes.iter().filter(|n| Some(&n.name) != server) {
            if !rule.lists(node.name.as_str()) {
                names.push((node.name.to_string(), false));
            }
        }
        let kind = match rule {
            SyncRule::Off => 0,
            SyncRule::First(..) => 1,
            SyncRule::Any(..) => 2,
        };
        Self { kind, k: rule.needed().max(1), names, line: 0 }
    }

    /// The rule as it stands.
    pub fn rule(&self) -> SyncRule {
        let names: Vec<String> = self.names.iter().filter(|(_, on)| *on).map(|(n, _)| n.clone()).collect();
        match self.kind {
            _ if names.is_empty() => SyncRule::Off,
            1 => SyncRule::First(self.k, names),
            2 => SyncRule::Any(self.k, names),
            _ => SyncRule::Off,
        }
    }
}

/// Which link of a node, and what is to be done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkDraft {
    /// The node.
    pub node: NodeName,
    /// The other end, by number.
    pub with: usize,
    /// The act under the cursor.
    pub line: usize,
    /// How slow or how narrow, by number.
    pub amount: usize,
}

impl LinkDraft {
    /// A node's first link.
    pub fn new(node: NodeName) -> Self {
        Self { node, with: 0, line: 0, amount: 1 }
    }
}

/// A window over the screen.
#[derive(Clone, Debug, PartialEq)]
pub enum Popup {
    /// All keys, those that match the filter.
    Help {
        /// Typed so far.
        filter: Input,
        /// First line shown.
        scroll: usize,
    },
    /// The command prompt.
    Palette {
        /// Typed so far.
        input: Input,
        /// The completion picked, if any.
        picked: Option<usize>,
    },
    /// A question with choices.
    Confirm {
        /// What is asked.
        question: Question,
        /// The choice under the cursor.
        choice: usize,
    },
    /// The synchronous rule.
    Rule(RuleDraft),
    /// The writer's orders; the line the cursor is on.
    Writer {
        /// Clients, rate, level, rest.
        line: usize,
    },
    /// Which node a standby is to follow.
    Follow {
        /// The standby.
        standby: NodeName,
        /// The choice under the cursor, among the other nodes.
        choice: usize,
    },
    /// One link of a node.
    Link(LinkDraft),
    /// SQL on a node.
    Sql {
        /// Where.
        node: NodeName,
        /// Typed so far.
        input: Input,
        /// First row of the result shown.
        scroll: usize,
    },
    /// The log of a node.
    Logs {
        /// Whose.
        node: NodeName,
        /// Lines that hold this are shown.
        filter: Input,
        /// Whether the filter is being typed.
        typing: bool,
        /// Lines up from the end.
        up: usize,
    },
    /// The steps behind journal entries.
    Steps {
        /// The entry's number.
        entry: usize,
        /// First line shown.
        scroll: usize,
    },
    /// The steps of the lesson.
    Contents {
        /// The step under the cursor; None for the present one, wherever that is.
        picked: Option<usize>,
    },
}

/// A short answer to the last key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toast {
    /// How to look at it.
    pub tone: Tone,
    /// The sentence.
    pub text: String,
}

/// What the person looks at, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Colours.
    pub theme: Theme,
    /// Which drawing characters there are.
    pub glyphs: Glyphs,
    /// The terminal's width and height as last told; mouse clicks are found with it.
    pub size: (u16, u16),
    /// Whether the lab takes the mouse (else the terminal selects text with it).
    pub mouse: bool,
    /// Whether leaving keeps the servers unless the person says otherwise.
    pub keep: bool,
    /// The panel that arrows act on.
    pub focus: Panel,
    /// Panels by when they were last in focus, newest first: where not all fit, the latest is shown.
    pub recent: Vec<Panel>,
    /// Whether the focused panel has the whole screen.
    pub zoom: bool,
    /// The node that acts act on; None for the primary.
    pub node: Option<NodeName>,
    /// The number of the journal's entry under the cursor; None follows the newest.
    pub journal: Option<usize>,
    /// First line shown, per panel that scrolls.
    pub scroll: BTreeMap<Panel, usize>,
    /// The step of the lesson whose text was shown last.
    pub text: Option<usize>,
    /// Windows, the topmost last.
    pub popups: Vec<Popup>,
    /// The answer to the last key.
    pub toast: Option<Toast>,
    /// Where in the past, while that is looked at.
    pub past: Option<Past>,
}

impl View {
    /// The first look.
    pub fn new(colours: ColourMode, shade: Shade) -> Self {
        Self {
            theme: Theme::new(colours, shade),
            glyphs: Glyphs::All,
            size: (80, 24),
            mouse: true,
            keep: false,
            focus: Panel::Cluster,
            recent: Vec::new(),
            zoom: false,
            node: None,
            journal: None,
            scroll: BTreeMap::new(),
            text: None,
            popups: Vec::new(),
            toast: None,
            past: None,
        }
    }

    /// The selected node: the one chosen, else the primary, else the first.
    pub fn selected<'a>(&self, model: &'a Model) -> Option<&'a Node> {
        let chosen = self.node.as_ref().and_then(|name| model.node(name));
        chosen.or_else(|| model.primary_node()).or_else(|| model.nodes.first())
    }

    /// Puts a panel in focus.
    pub fn focus_on(&mut self, panel: Panel) {
        self.focus = panel;
        self.recent.retain(|p| *p != panel);
        self.recent.insert(0, panel);
    }

    /// Of these, the one in focus last; else the first.
    pub fn latest(&self, among: &[Panel]) -> Option<Panel> {
        self.recent.iter().copied().find(|p| among.contains(p)).or_else(|| among.first().copied())
    }

    /// First line shown of a panel.
    pub fn scrolled(&self, panel: Panel) -> usize {
        self.scroll.get(&panel).copied().unwrap_or(0)
    }

    /// Another text of the lesson begins at its top.
    pub fn turn_over(&mut self, model: &Model) {
        let text = model.script.as_ref().and_then(Script::text_at);
        if std::mem::replace(&mut self.text, text) != text {
            self.scroll.remove(&Panel::Lesson);
        }
    }

    /// The topmost window.
    pub fn popup(&self) -> Option<&Popup> {
        self.popups.last()
    }

    /// Answers the last key.
    pub fn say(&mut self, tone: Tone, text: impl Into<String>) {
        self.toast = Some(Toast { tone, text: text.into() });
    }
}
