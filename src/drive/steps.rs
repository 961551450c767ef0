//! The exact steps behind an act, as a person would type them.

use std::fmt::Display;

use crate::model::NodeName;
use crate::pg::sql;

/// Collects the steps of one act.
#[derive(Debug)]
pub struct Steps {
    docker: bool,
    lab: String,
    lines: Vec<String>,
}

impl Steps {
    /// Nothing done yet.
    pub fn new(kind: &str, lab: &str) -> Self {
        Self { docker: kind == "docker", lab: lab.to_owned(), lines: Vec::new() }
    }

    /// SQL on a node, as it is sent: no prose, a person may paste it.
    pub fn sql(&mut self, node: &NodeName, text: impl Display) {
        self.lines.push(format!("{node}: {text}"));
    }

    /// A setting of a node set or (None) reset, and its files read again.
    pub fn setting(&mut self, node: &NodeName, name: &str, value: Option<&str>) {
        self.sql(node, sql::alter_system(name, value));
        self.sql(node, sql::RELOAD);
    }

    /// Something done to the lab's own parts, or a word about the steps, in prose.
    pub fn note(&mut self, text: impl Display) {
        self.lines.push(text.to_string());
    }

    /// A verb of the engine ("kill", "pause") on a node, and what it means for processes.
    pub fn node(&mut self, node: &NodeName, docker: &str, process: &str) {
        self.lines.push(if self.docker {
            format!("docker {docker} replab-{}-{node}", self.lab)
        } else {
            format!("{node}: {process}")
        });
    }

    /// The lines.
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }
}
