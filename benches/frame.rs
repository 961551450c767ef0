//! One frame of a lab of 16 nodes: a look at every node taken in, then the whole screen of 200 by 50 drawn and compared with
//! the frame before.

mod common;
#[path = "../tests/screens/models.rs"]
#[allow(dead_code, reason = "the screens' tests use the rest")]
mod models;

use std::process::ExitCode;
use std::time::Instant;

use common::{Bench, Goal, Run, Spread, ms};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use replab::model::cluster::{Look, Observation};
use replab::model::ledger::{Ack, IdRange};
use replab::model::msg::Msg;
use replab::model::{Lsn, Model, Stamp, update};
use replab::ui::{self, ColourMode, Shade, View};

const SIZE: (u16, u16) = (200, 50);
const FRAMES: usize = 2_000;
/// Frames that aren't counted.
const WARM: usize = 50;
/// Between two frames.
const FRAME_US: u64 = 33_000;

fn main() -> ExitCode {
    common::run("frame", frames, async || {})
}

async fn frames(bench: &mut Bench) -> Run<()> {
    for (case, model) in [("idle", models::live(15, "")), ("loaded", loaded())] {
        let case = format!("{case} 16 nodes 200x50 ms");
        if !bench.wants(&case) {
            continue;
        }
        bench.quiet().await;
        let [updates, draws] = measure(bench, model)?;
        let all: Vec<f64> = updates.iter().zip(&draws).map(|(a, b)| a + b).collect();
        let (update, draw, all) = (Spread::of(&updates), Spread::of(&draws), Spread::of(&all));
        bench.tell(&case, &format!("update {update:.3} ms, draw {draw:.3} ms, both {all:.3} ms"));
        bench.goal(&case, all.median, Goal::AtMost(1.0));
    }
    Ok(())
}

/// A rule over all standbys, charts full, the books in use.
fn loaded() -> Model {
    let names: Vec<String> = (1..=15).map(|n| format!("s{n}")).collect();
    let mut model = models::live(15, &format!("ANY 2 ({})", names.join(", ")));
    let busy = models::loaded();
    (model.history, model.ledger) = (busy.history, busy.ledger);
    (model.writer, model.journal) = (busy.writer, busy.journal);
    model
}

/// Milliseconds of each update and each drawing.
fn measure(bench: &Bench, mut model: Model) -> Run<[Vec<f64>; 2]> {
    let mut terminal = Terminal::new(TestBackend::new(SIZE.0, SIZE.1))?;
    let view = View { size: SIZE, ..View::new(ColourMode::Full, Shade::Dark) };
    let mut figures = [Vec::new(), Vec::new()];
    for frame in 0..WARM + bench.rounds(FRAMES) {
        let messages = messages(&model, frame as u64);
        let began = Instant::now();
        let at = Stamp(model.now.0 + FRAME_US);
        for msg in messages {
            update(&mut model, at, msg);
        }
        let updated = ms(began);
        let began = Instant::now();
        terminal.draw(|frame| ui::render(frame, &model, &view))?;
        if frame >= WARM {
            figures[0].push(updated);
            figures[1].push(ms(began));
        }
    }
    Ok(figures)
}

/// What comes in before a frame: more than a real one, where a node is looked at four times a second.
fn messages(model: &Model, frame: u64) -> Vec<Msg> {
    let looks = model.nodes.iter().filter_map(|node| {
        let mut sample = node.sample.clone()?;
        sample.wal = Lsn(sample.wal.0 + 4_096);
        for sender in &mut sample.senders {
            sender.replay = sender.replay.map(|lsn| Lsn(lsn.0 + 4_000));
        }
        Some(Msg::Observed(Observation::Node(node.name.clone(), Look::Sample(Box::new(sample)))))
    });
    let ranges: Vec<IdRange> =
        (11..19).map(|client| IdRange { client, first: 1 + frame * 40, last: 40 + frame * 40 }).collect();
    let wrote = ranges.iter().map(|range| (*range, Ack::Acked)).collect();
    let news = [Msg::Tried(ranges), Msg::Wrote(wrote), Msg::Pulse(model.writer.pulse.clone()), Msg::Tick];
    looks.chain(news).collect()
}
