//! How a node looks: a glyph, a word and a colour that say the same. Used wherever a node is named.

use ratatui::style::Style;

use super::theme::Theme;
use crate::model::cluster::{NodeState, Role};
use crate::model::links::Harm;
use crate::model::{Fault, Model, Node};

/// A node's looks.
pub(super) struct Face {
    /// One column wide.
    pub glyph: &'static str,
    /// What it is or what ails it.
    pub word: &'static str,
    /// Its colour.
    pub style: Style,
}

/// The looks of a node now.
pub(super) fn of(model: &Model, node: &Node, theme: &Theme) -> Face {
    let face = |glyph, word, style| Face { glyph, word, style };
    match node.state {
        NodeState::Frozen => face("❄", "frozen", theme.warn),
        NodeState::Exited(_) if node.phase.is_none() => face("✖", "down", theme.bad),
        NodeState::Unknown => face("?", "unknown", theme.dim),
        _ if model.engine_down.is_some() => face("?", "last known", theme.dim),
        NodeState::Running if node.unreachable.is_some() && node.sample.is_some() => face("▲", "no answer", theme.bad),
        _ => running(model, node, theme),
    }
}

fn running(model: &Model, node: &Node, theme: &Theme) -> Face {
    let face = |glyph, word, style| Face { glyph, word, style };
    match &node.sample {
        None => face("◌", "starting", theme.dim),
        Some(s) if s.role == Role::Primary => face("◆", "primary", theme.primary),
        Some(_) if model.stopped_by(&node.name).is_some() => face("◇", "no replay", theme.bad),
        Some(s) if s.replay_paused => face("◇", "paused", theme.warn),
        Some(_) => face("◇", "standby", theme.standby),
    }
}

/// The glyph of a link's fault.
pub(super) fn sign(harm: Harm) -> &'static str {
    match harm {
        Harm::Cut => "╳",
        Harm::Refuse => "⊘",
        Harm::Slow(_) => "◔",
        Harm::Throttle(_) => "▽",
    }
}

/// A fault as a badge says it.
pub(super) fn fault(fault: &Fault) -> String {
    match fault {
        Fault::Link(fault) => format!("{} {fault}", sign(fault.harm)),
        Fault::Isolated(end) => format!("╳ {end} is isolated"),
        Fault::Frozen(n) => format!("❄ {n} is frozen"),
        Fault::Down(n) => format!("✖ {n} is down"),
        Fault::Rival(n) => format!("◆ {n} is a primary too"),
        Fault::ReplayStopped(n, why) => format!("▲ {n} stopped replaying: {why}"),
        Fault::ReplayPaused(n) => format!("▲ replay on {n} is paused"),
    }
}
