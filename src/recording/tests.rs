//! Recordings written, read, damaged and searched, without a server.

use proptest::prelude::*;

use super::*;
use crate::model::cluster::{Look, NodeState, Observation};
use crate::model::command::Command;
use crate::model::ledger::{Ack, IdRange};
use crate::model::msg::{Happened, OpId, Opening, Origin, Outcome, Topology, WriterPlan};
use crate::model::{Model, NodeName, update};
use reel::Film as _;

fn opening() -> Opening {
    Opening {
        lab: "lab".into(),
        runtime: "fake".into(),
        source: String::new(),
        topology: Topology::primary_with(2),
        script: None,
        read_only: false,
        writer: WriterPlan::default(),
        disk_floor: 0,
    }
}

/// A lab of so many seconds: writes all the time, and every ten seconds somebody asks for something.
fn messages(seconds: u64) -> Vec<(Stamp, Msg)> {
    let up = Happened::BroughtUp {
        ms: 500,
        postgres: "18.6".into(),
        system_identifier: 7,
        direct_links: None,
        no_freezer: None,
    };
    let done = Msg::Done(OpId(0), Outcome { result: Ok(up), steps: Vec::new() });
    let mut all = vec![(Stamp(0), Msg::Open(Box::new(opening()))), (Stamp(500_000), done)];
    for tenth in 6..seconds * 10 {
        let at = Stamp(tenth * 100_000);
        let range = IdRange { client: 1, first: tenth, last: tenth };
        all.push((at, Msg::Tick));
        all.push((at, Msg::Tried(vec![range])));
        all.push((at, Msg::Wrote(vec![(range, Ack::Acked)])));
        if tenth % 100 == 0 {
            let s1: NodeName = "s1".parse().unwrap();
            let state = if tenth % 200 == 0 { NodeState::Frozen } else { NodeState::Running };
            all.push((at, Msg::Command(Command::Heartbeat(tenth % 200 == 0), Origin::You)));
            all.push((at, Msg::Observed(Observation::Node(s1, Look::State(state)))));
        }
    }
    all
}

fn file(messages: &[(Stamp, Msg)]) -> Vec<u8> {
    let mut bytes =
        head(&Header { replab_recording: FORMAT, lab: "lab".into(), end_marked: true, ..Header::default() });
    let mut part = Part::default();
    for (at, msg) in messages {
        if part.add(*at, msg).unwrap() {
            bytes.extend(part.seal(0).unwrap().1);
        }
    }
    bytes.extend(part.seal(0).map(|(_, rest)| rest).unwrap_or_default());
    bytes.extend(tail());
    bytes
}

fn model_of(messages: &[(Stamp, Msg)], until: Stamp) -> Model {
    let mut model = Model::default();
    for (at, msg) in messages.iter().take_while(|(at, _)| *at <= until) {
        update(&mut model, *at, msg.clone());
    }
    model.now = model.now.max(until);
    model
}

/// Whether the first few of these messages make this model.
fn is_of_a_prefix(model: &Model, messages: &[(Stamp, Msg)]) -> bool {
    let mut so_far = Model::default();
    let mut grown = messages.iter().map(|(at, msg)| {
        update(&mut so_far, *at, msg.clone());
        so_far == *model
    });
    *model == Model::default() || grown.any(|same| same)
}

#[test]
fn what_is_replayed_is_what_was() {
    let messages = messages(30);
    let bytes = file(&messages);
    let (reel, end) = Reel::load(&bytes).unwrap();
    assert_eq!((reel.damage.clone(), reel.end()), (None, messages.last().unwrap().0));
    assert_eq!(end, model_of(&messages, reel.end()));
    assert_eq!(end.ledger.counts().acked, 294);
}

#[test]
fn any_moment_is_found_again() {
    let messages = messages(400);
    let bytes = file(&messages);
    let (reel, _) = Reel::load(&bytes).unwrap();
    let mut player = Player::new();
    for second in [399, 3, 200, 201, 40, 39, 0, 398] {
        let at = Stamp(second * 1_000_000 + 50_000);
        player.seek(&reel, &bytes, at).unwrap();
        assert_eq!(player.at(), at);
        assert_eq!(player.model, model_of(&messages, at), "at {second} s");
    }
}

#[test]
fn steps_stop_at_what_matters_and_marks_are_what_was_asked() {
    let bytes = file(&messages(45));
    let (reel, _) = Reel::load(&bytes).unwrap();
    let seconds: Vec<u64> = reel.marks.iter().map(|mark| mark.at.0 / 1_000_000).collect();
    assert_eq!(seconds, [10, 20, 30, 40]);
    assert_eq!(reel.mark(Stamp(10_000_000), true).unwrap().at, Stamp(20_000_000));
    assert_eq!(reel.mark(Stamp(10_000_000), false), None);
    let mut player = Player::new();
    player.seek(&reel, &bytes, Stamp(5_000_000)).unwrap();
    assert!(player.step(&reel, &bytes).unwrap());
    assert_eq!(player.at(), Stamp(10_000_000));
}

#[test]
fn chapters_of_a_lesson_are_marks_too() {
    let text = "title = \"T\"\nsummary = \"S\"\n[[step]]\nchapter = \"One\"\npause = \"1s\"\n[[step]]\npause = \"5s\"\n\
                [[step]]\nchapter = \"Two\"\nsay = \"Hello\"\n";
    let mut messages = messages(45);
    let script = crate::scenario::parse("t", text).unwrap().script;
    messages[0].1 = Msg::Open(Box::new(Opening { script: Some(script), ..opening() }));
    let (reel, _) = Reel::load(&file(&messages)).unwrap();
    let chapters: Vec<(u64, &str)> = reel
        .marks
        .iter()
        .filter(|mark| mark.text.starts_with("chapter"))
        .map(|mark| (mark.at.0 / 1_000_000, mark.text.as_str()))
        .collect();
    assert_eq!(chapters, [(0, "chapter 1: One"), (6, "chapter 2: Two")]);
    assert!(reel.marks.is_sorted_by_key(|mark| mark.at));
}

#[test]
fn a_day_keeps_few_keyframes() {
    let mut reel = Reel::new(Header::default());
    let model = model_of(&messages(20), Stamp(20_000_000));
    let one = {
        reel.begin(&model);
        reel.kept_bytes()
    };
    for part in 0..43_200_u64 {
        reel.begin(&model);
        let (from, to) = (Stamp(part * 2_000_000), Stamp(part * 2_000_000 + 1_999_999));
        reel.push(Place { from, to, offset: part * 100, len: 100 });
    }
    assert!(reel.kept_bytes() <= 256 * one, "{} bytes", reel.kept_bytes());
    assert!(reel.kept_bytes() >= 128 * one, "{} bytes", reel.kept_bytes());
}

#[test]
fn foreign_and_newer_files_are_refused() {
    for bytes in [&b""[..], b"hello", &pack(b"hello", Compression::fast()), &pack(b"{}", Compression::fast())] {
        assert_eq!(read_head(bytes).unwrap_err(), NotReadable::Foreign);
    }
    let newer = head(&Header { replab_recording: FORMAT + 1, ..Header::default() });
    assert_eq!(read_head(&newer).unwrap_err(), NotReadable::Newer(FORMAT + 1));
}

#[test]
fn a_film_that_became_shorter_is_an_error() {
    let short: Vec<u8> = vec![0; 10];
    let place = Place { from: Stamp(0), to: Stamp(1), offset: 8, len: 4 };
    assert!(short.part(&place).is_err());
}

proptest! {
    /// Cut off or damaged anywhere: what comes before is replayed, and the damage is told.
    #[test]
    fn damage_costs_only_what_comes_after(at in 0.0..1.0_f64, cut in any::<bool>(), flip in 1..=255_u8) {
        let messages = messages(12);
        let whole = file(&messages);
        let mut bytes = whole.clone();
        let place = (at * bytes.len() as f64) as usize;
        if cut { bytes.truncate(place) } else { bytes[place] ^= flip }
        // A damaged head is no recording; a checksum doesn't cover all of a member's own head (its time, for one).
        if let Ok((reel, model)) = Reel::load(&bytes) {
            prop_assert!(is_of_a_prefix(&model, &messages), "what is replayed is the beginning of what was");
            let all = reel.end() == messages.last().unwrap().0;
            prop_assert!(reel.damage.is_some() || (all && !cut) || bytes == whole);
        }
    }
}

#[test]
fn an_older_one_has_no_mark_and_needs_none() {
    let mut bytes = head(&Header { replab_recording: FORMAT, lab: "lab".into(), ..Header::default() });
    let mut part = Part::default();
    part.add(Stamp(0), &Msg::Tick).unwrap();
    bytes.extend(part.seal(0).unwrap().1);
    assert_eq!(Reel::load(&bytes).unwrap().0.damage, None);
}

/// The bytes of each part, the head's before and the end's after them.
fn parts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (reel, _) = Reel::load(bytes).unwrap();
    let mut cuts: Vec<usize> = reel.places.iter().map(|place| place.offset as usize).collect();
    cuts.push(bytes.len() - tail().len());
    let all: Vec<usize> = std::iter::once(0).chain(cuts).chain([bytes.len()]).collect();
    all.windows(2).map(|ends| bytes[ends[0]..ends[1]].to_vec()).collect()
}

/// Parts that come twice or in another order are no history: the first that goes back in time is refused, and all after it.
#[test]
fn a_recording_whose_time_goes_backward_is_damaged() {
    let messages = messages(30);
    let whole = parts(&file(&messages));
    assert!(whole.len() > 10, "{} parts", whole.len());
    for at in 1..whole.len() - 1 {
        let (mut doubled, mut swapped) = (whole.clone(), whole.clone());
        doubled.insert(at + 1, whole[at].clone());
        swapped.swap(at, at + 1);
        for (what, parts) in [("doubled", doubled), ("swapped", swapped)] {
            // The last one in the place of the end has nothing after it that could be earlier.
            if what == "swapped" && at == whole.len() - 2 {
                continue;
            }
            let (reel, model) = Reel::load(&parts.concat()).unwrap();
            let damage = reel.damage.unwrap_or_default();
            assert!(damage.contains("its time goes backward"), "{what} at {at}: {damage}");
            assert!(reel.whole < parts.concat().len());
            assert!(
                is_of_a_prefix(&model, &messages) || what == "swapped",
                "{what} at {at}: what comes before is shown"
            );
        }
    }
    let mut back = messages;
    back[100].0 = Stamp(1);
    assert!(Reel::load(&file(&back)).unwrap().0.damage.unwrap().contains("its time goes backward"));
}

/// Books begin anew when a lab is brought up or reset, and never else.
#[test]
fn a_recording_whose_books_shrink_is_damaged() {
    let up = |id| {
        let up = Happened::BroughtUp {
            ms: 500,
            postgres: "18.6".into(),
            system_identifier: 7,
            direct_links: None,
            no_freezer: None,
        };
        Msg::Done(OpId(id), Outcome { result: Ok(up), steps: Vec::new() })
    };
    let (reset, end) = (Msg::Command(Command::Reset, Origin::You), Stamp(30_000_000));
    let mut honest = messages(30);
    honest.extend([(end, reset), (end, up(1))]);
    let (reel, model) = Reel::load(&file(&honest)).unwrap();
    assert_eq!((reel.damage, model.ledger.counts().tried), (None, 0), "a reset empties the books");
    let mut false_start = messages(30);
    false_start.extend([(end, Msg::Open(Box::new(opening()))), (end, up(1))]);
    let damage = Reel::load(&file(&false_start)).unwrap().0.damage.unwrap();
    assert!(damage.contains("a sum of its books goes down"), "{damage}");
}

#[test]
fn one_cut_off_between_two_parts_has_no_end() {
    let whole = file(&messages(12));
    let (reel, _) = Reel::load(&whole).unwrap();
    for place in &reel.places {
        let (cut, _) = Reel::load(&whole[..place.offset as usize]).unwrap();
        assert!(cut.damage.unwrap().contains("no end"), "cut at {}", place.offset);
    }
    let (cut, _) = Reel::load(&whole[..whole.len() - tail().len()]).unwrap();
    assert!(cut.damage.is_some());
}
