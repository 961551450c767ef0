//! The safety floor: with too little room on the data's disk the writer is held, and goes on when there is room again.

use crate::model::cluster::LogLine;
use crate::model::journal::{Tone, Who};
use crate::model::msg::Effect;
use crate::model::text::size;
use crate::model::{Model, NodeName, Stage};

/// The writer goes on with this much more than the floor, in per cent, so that it doesn't stop and go at the edge.
const ROOM_AGAIN: u64 = 110;

/// With this much free a disk isn't full.
const ROOM_TO_WRITE: u64 = 64 * 1024 * 1024;

/// A look at the disk.
pub fn seen(model: &mut Model, free: Option<u64>) -> Vec<Effect> {
    model.disk_free = free;
    if free.is_some_and(|free| free >= ROOM_TO_WRITE) {
        model.nodes.iter_mut().for_each(|node| node.full_told = false);
    }
    // What can't be seen changes nothing: neither is there room, nor is there none.
    let Some(free) = free.filter(|_| model.disk_floor > 0) else { return Vec::new() };
    let (left, floor) = (size(free), size(model.disk_floor));
    if !model.disk_low && free < model.disk_floor {
        model.disk_low = true;
        let text = format!(
            "only {left} are free on the disk of the nodes' data, less than the floor of {floor}: the writer is held. \
             Make room, or remove slots and nodes that keep WAL; it goes on by itself"
        );
        model.say(Who::Lab, Tone::Bad, text);
    } else if model.disk_low && free >= model.disk_floor / 100 * ROOM_AGAIN {
        model.disk_low = false;
        model.say(Who::Lab, Tone::Good, format!("{left} are free again: the writer goes on"));
    } else {
        return Vec::new();
    }
    if model.stage == Stage::Live { vec![Effect::Writer(model.writer.plan.clone())] } else { Vec::new() }
}

/// A server that finds no room says so in its log alone; what clients see is that their writes fail, or that it is gone.
pub fn tell_full(model: &mut Model, name: &NodeName, lines: &[LogLine]) {
    let full = |line: &LogLine| line.text.contains("No space left on device");
    let Some(node) = model.node_mut(name).filter(|node| !node.full_told && lines.iter().any(full)) else { return };
    node.full_told = true;
    let text = format!(
        "the disk of {name}'s data is full (No space left on device): {name} can write nothing more, and that is why writes fail \
         there. Make room, or remove slots and nodes that keep WAL"
    );
    model.say(Who::Lab, Tone::Bad, text);
}

/// Whatever orders the writer gets, it writes nothing while the disk is low, bursts neither. What it was told is kept, and holds again later.
pub fn hold_writer(model: &Model, effects: &mut [Effect]) {
    for effect in effects.iter_mut().filter(|_| model.disk_low) {
        if let Effect::Writer(plan) = effect {
            plan.held = true;
        }
    }
}
