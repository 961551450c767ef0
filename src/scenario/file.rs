//! From a file's tree to the model's values: head, cluster, writer; the steps are in `steps`. Format:
//! docs/scenario-format.md.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::fields;
use super::settings::{self, When};
use super::tree::{self, Reader, Text};
use super::{Complaints, Scenario, flow, steps, vars as names};
use crate::model::NodeName;
use crate::model::command::Rate;
use crate::model::msg::{NodePlan, Topology, WriterPlan};
use crate::model::script::Script;

/// Nodes that a lab may begin with: a primary and sixteen standbys.
const NODES_MAX: usize = 17;
/// Variables that a lesson may have.
const VARS_MAX: usize = 100;

/// A lesson from its text with the steps for this major version of PostgreSQL, and all that there is to say of it: where its steps go by the
/// version, those of every version are looked at. A file with a mistake is no lesson.
pub fn scenario(name: &str, text: &str, major: u32) -> (Option<Scenario>, Complaints) {
    let (lesson, turns, mut complaints) = read(name, text, major);
    let others = turns.first().map(|first| first - 1).into_iter().chain(turns.iter().copied());
    for other in others {
        let (_, _, of_other) = read(name, text, other);
        complaints.add(of_other);
    }
    (lesson.filter(|_| !complaints.refuse()), complaints)
}

/// A topology from its text.
pub fn topology(name: &str, text: &str) -> Result<Topology, Complaints> {
    let mut reader = Reader::new(name, text);
    let topology = reader.tree().map(|table| {
        reader.shaped(&table, &fields::TOPOLOGY, &(0..0));
        let nodes = nodes(&mut reader, &table);
        if nodes.is_empty() && !reader.is_hopeless() {
            reader.wrong(0..0, "a topology has at least one [[node]]");
        }
        Topology { nodes, settings: settings(&mut reader, &table) }
    });
    let complaints = reader.into_complaints();
    topology.filter(|_| !complaints.refuse()).ok_or(complaints)
}

/// The lesson, the versions with which its steps change, and what there is to say of it.
fn read(name: &str, text: &str, major: u32) -> (Option<Scenario>, BTreeSet<u32>, Complaints) {
    let mut reader = Reader::new(name, text);
    let table = reader.tree();
    let turns = table.as_ref().map(|table| steps::turns(&mut reader, table)).unwrap_or_default();
    let lesson = table.and_then(|table| lesson(&mut reader, name, &table, major));
    let lesson = lesson.map(|lesson| Scenario { turns: turns.clone(), ..lesson });
    (lesson, turns, reader.into_complaints())
}

fn lesson(reader: &mut Reader<'_>, name: &str, table: &DeTable<'_>, major: u32) -> Option<Scenario> {
    reader.shaped(table, &fields::LESSON, &(0..0));
    let settings = settings(reader, table);
    let topology = cluster(reader, table, settings);
    let writer = writer(table);
    let vars = vars(reader, table);
    let mut read = steps::read(reader, table, &vars, major);
    flow::check(reader, &topology, &mut read);
    let steps = table.get("step").and_then(|v| v.get_ref().as_array());
    if steps.is_none_or(|steps| steps.is_empty()) && !reader.is_hopeless() {
        reader.wrong(0..0, "a lesson without a [[step]] shows nothing");
    }
    if reader.is_hopeless() {
        return None;
    }
    let [title, summary, level] =
        ["title", "summary", "level"].map(|f| reader.text(table, f).map_or(String::new(), |t| t.text));
    let steps = read.into_iter().map(|placed| placed.step).collect();
    Some(Scenario {
        script: Script::new(name, &title, &summary, steps),
        topology,
        writer,
        level,
        minutes: tree::whole(table, "minutes"),
        requires: tree::whole(table, "requires"),
        turns: BTreeSet::new(),
    })
}

fn sub_table<'t, 'i>(table: &'t DeTable<'i>, field: &str) -> Option<&'t DeTable<'i>> {
    table.get(field)?.get_ref().as_table()
}

/// Names for the texts of the steps.
fn vars(reader: &mut Reader<'_>, table: &DeTable<'_>) -> BTreeMap<String, String> {
    let Some(vars) = sub_table(table, "vars") else { return BTreeMap::new() };
    if vars.len() > VARS_MAX {
        let place = tree::key_place(table, "vars").unwrap_or(0..0);
        reader.wrong(place, format!("a lesson has at most {VARS_MAX} variables"));
        return BTreeMap::new();
    }
    for value in vars.values().filter(|value| value.get_ref().as_str().is_some_and(names::is_nested)) {
        let place = reader.inside(&value.span());
        reader.wrong(place, names::NESTED);
    }
    tree::scalars(vars)
}

fn settings(reader: &mut Reader<'_>, table: &DeTable<'_>) -> BTreeMap<String, String> {
    let Some(given) = sub_table(table, "settings") else { return BTreeMap::new() };
    for (key, value) in given {
        if reader.skips() && !settings::is_one(key.get_ref()) {
            reader.counts();
            continue;
        }
        match settings::known(key.get_ref()) {
            Err(why) => reader.wrong(key.span(), why),
            Ok(()) => {
                let value_text = tree::scalar(value.get_ref()).unwrap_or_default();
                if let Some(amiss) = settings::amiss(key.get_ref(), &value_text, When::Start) {
                    let place = reader.inside(&value.span());
                    reader.note(place, amiss.why, amiss.weight);
                }
            }
        }
    }
    tree::scalars(given)
}

fn cluster(reader: &mut Reader<'_>, table: &DeTable<'_>, settings: BTreeMap<String, String>) -> Topology {
    let Some(cluster) = sub_table(table, "cluster") else {
        return Topology { settings, ..Topology::primary_with(2) };
    };
    let standbys = tree::whole(cluster, "standbys").map(|n| n.min(16));
    if let (Some(key), true) = (tree::key_place(cluster, "standbys"), cluster.contains_key("node")) {
        reader.wrong(key, "either standbys = N or [[cluster.node]], not both");
    }
    let topology = match standbys {
        None if cluster.contains_key("node") => Topology { nodes: nodes(reader, cluster), settings: BTreeMap::new() },
        n => Topology::primary_with(n.unwrap_or(2)),
    };
    Topology { settings, ..topology }
}

/// The nodes of a topology or of [[cluster.node]].
fn nodes(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Vec<NodePlan> {
    let items = table.get("node").and_then(|v| v.get_ref().as_array());
    let mut plans: Vec<NodePlan> = Vec::new();
    if let Some(more) = items.and_then(|items| items.get(NODES_MAX)) {
        reader.wrong(more.span(), format!("a lab begins with at most {NODES_MAX} nodes"));
        return plans;
    }
    for node in items.into_iter().flatten().filter_map(|item| item.get_ref().as_table()) {
        let name = reader.text(node, "name").and_then(|t| name_of(reader, &t).map(|n| (n, t.span)));
        let follows = reader.text(node, "follows");
        let upstream = follows.as_ref().and_then(|t| name_of(reader, t));
        let Some((name, span)) = name else { continue };
        if plans.iter().any(|p| p.name == name) {
            reader.wrong(span, format!("there are two nodes called {name}"));
            continue;
        }
        match (&upstream, &follows) {
            (None, None) if plans.iter().any(|p| p.upstream.is_none()) => {
                reader
                    .wrong(span, format!("{name} follows nobody, and there is a primary already: add follows = \"…\""));
            }
            (Some(up), Some(place)) if !plans.iter().any(|p| p.name == *up) => {
                reader.wrong(place.span.clone(), format!("{name} follows {up}, which is not a node above it"));
            }
            _ => {}
        }
        plans.push(NodePlan { name, upstream });
    }
    plans
}

/// A name, complained of where it can't be one.
pub fn name_of(reader: &mut Reader<'_>, text: &Text) -> Option<NodeName> {
    match text.text.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            let error: crate::model::ids::BadNodeName = error;
            reader.wrong(place_of(text), error.to_string());
            None
        }
    }
}

fn place_of(text: &Text) -> Range<usize> {
    text.span.clone()
}

/// What isn't as it should be has been complained of by its shape.
fn writer(table: &DeTable<'_>) -> WriterPlan {
    let mut plan = WriterPlan::default();
    let Some(writer) = sub_table(table, "writer") else { return plan };
    plan.paused = tree::flag(writer, "paused");
    plan.clients = tree::whole(writer, "clients").unwrap_or(plan.clients);
    plan.rate = match writer.get("rate").map(toml::Spanned::get_ref) {
        Some(DeValue::String(_)) => Rate::Max,
        Some(_) => tree::whole(writer, "rate").map_or(plan.rate, Rate::PerSecond),
        None => plan.rate,
    };
    if let Some(level) = writer.get("commit").and_then(|v| v.get_ref().as_str()) {
        level.clone_into(&mut plan.level);
    }
    plan
}
