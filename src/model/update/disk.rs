//! The safety floor: with too little room on the data's disk the writer is held, and goes on when there is room again.

use crate::model::journal::{Tone, Who};
use crate::model::msg::Effect;
use crate::model::text::size;
use crate::model::{Model, Stage};

/// The writer goes on with this much more than the floor, in per cent, so that it doesn't stop and go at the edge.
const ROOM_AGAIN: u64 = 110;

/// A look at the disk.
pub fn seen(model: &mut Model, free: Option<u64>) -> Vec<Effect> {
    model.disk_free = free;
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

/// Whatever orders the writer gets, it writes nothing while the disk is low, bursts neither. What it was told is kept, and holds again later.
pub fn hold_writer(model: &Model, effects: &mut [Effect]) {
    for effect in effects.iter_mut().filter(|_| model.disk_low) {
        if let Effect::Writer(plan) = effect {
            plan.held = true;
        }
    }
}
