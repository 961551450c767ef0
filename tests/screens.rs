//! Every screen, panel and window as a picture at two sizes, and the promises that hold at any size.

use insta::assert_snapshot;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use replab::keys::{Intent, Key, KeyInput, QuitHow, StartIntent};
use replab::model::Model;
use replab::model::command::Command;
use replab::model::journal::{Tone, Who};
use replab::model::script::StepKind;
use replab::ui::start::{Entry, Opens, StartMenu};
use replab::ui::view::{Input, LinkDraft, Panel, Popup, Question, RuleDraft, View};
use replab::ui::{self, ColourMode, Glyphs, Shade};

#[path = "screens/models.rs"]
mod models;

use models::name;

fn view() -> View {
    View::new(ColourMode::Full, Shade::Dark)
}

fn buffer(model: &Model, view: &View, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| ui::render(frame, model, view)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let rows = buffer.content.chunks(usize::from(buffer.area.width.max(1)));
    let lines: Vec<String> = rows
        .map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned())
        .collect();
    lines.join("\n")
}

fn picture(model: &Model, view: &View, size: (u16, u16)) -> String {
    text(&buffer(model, view, size))
}

/// The model at both sizes.
fn both(label: &str, model: &Model, view: &View) {
    assert_snapshot!(format!("{label}_80x24"), picture(model, view, (80, 24)));
    assert_snapshot!(format!("{label}_160x45"), picture(model, view, (160, 45)));
}

#[test]
fn bring_up() {
    both("starting", &models::starting(), &view());
    both("failed", &models::failed(), &view());
}

/// Wherever a text comes from: what a terminal would act on isn't in the picture.
#[test]
fn nothing_that_a_terminal_acts_on_is_drawn() {
    let hostile = "red\x1b[31m \u{9b}2J turned\u{202e} round\u{2066} \u{200f}and\u{200b}\u{feff} \x07";
    let mut model = models::lesson();
    models::tell(&mut model, 9.0, Who::Lab, Tone::Bad, hostile, &[hostile]);
    model.runtime = hostile.to_owned();
    if let Some(script) = &mut model.script {
        script.title = hostile.to_owned();
        let (say, name) = (format!("# {hostile}\n\n`{hostile}`\n\n    {hostile}\n"), hostile.to_owned());
        let at = script.at;
        (script.steps[at].kind, script.steps[at].name) = (StepKind::Say(say), name);
        script.steps[at].chapter = Some(hostile.to_owned());
    }
    for popups in [vec![], vec![Popup::Contents { picked: None }], vec![Popup::Steps { entry: 0, scroll: 0 }]] {
        for size in [(80, 24), (160, 45)] {
            let drawn = picture(&model, &View { popups: popups.clone(), ..view() }, size);
            let risky =
                |c: &char| (c.is_control() && *c != '\n') || "\u{202e}\u{2066}\u{200f}\u{200b}\u{feff}".contains(*c);
            assert_eq!(drawn.chars().find(risky), None, "{drawn:?}");
            assert!(drawn.contains("round"), "{drawn}");
        }
    }
}

/// A promise had been made of what is lost, and an election ended it: the rule didn't allow that loss.
#[test]
fn an_unsafe_election_is_named_where_it_excuses_a_loss() {
    // The panel is as wide as the screen; its lines put together again.
    let words = |model: &Model| {
        let drawn = picture(model, &view(), (80, 24)).replace('│', " ");
        drawn.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let mut model = models::promoted();
    let drawn = words(&model);
    assert!(drawn.contains("▲ No promise was broken No rule promised to keep them."), "{drawn}");
    assert!(!drawn.contains("✔ No"), "no green tick beside lost writes: {drawn}");
    model.verification.as_mut().unwrap().uncovered = vec!["s2 is ahead of s1".into()];
    let drawn = words(&model);
    assert!(drawn.contains("▲ No promise was broken None covered that election (s2 is ahead of s1)."), "{drawn}");
    assert!(!drawn.contains("allowed"), "{drawn}");
}

#[test]
fn a_running_lab() {
    both("idle", &models::live(2, ""), &view());
    both("loaded", &models::loaded(), &view());
    both("busy", &models::busy(), &view());
    both("many", &models::many(), &view());
}

#[test]
fn faults() {
    both("frozen", &models::frozen(), &view());
    both("killed", &models::killed(), &view());
    both("promoted", &models::promoted(), &view());
    assert_snapshot!("promoted_120x36", picture(&models::promoted(), &view(), (120, 36)));
    both("stale", &models::stale(), &view());
    both("links", &models::links(), &view());
    both("isolated", &models::isolated(), &view());
    let mut on_slots = view();
    on_slots.focus_on(Panel::Slots);
    both("slots", &models::slots(), &on_slots);
    assert_snapshot!("zoom_Slots", picture(&models::slots(), &View { zoom: true, ..on_slots }, (100, 30)));
    both("split_brain", &models::split_brain(), &view());
    both("left_on_the_old_primary", &models::left_on_the_old_primary(), &view());
    assert!(picture(&models::split_brain(), &view(), (80, 24)).contains("SPLIT BRAIN: s1 and p accept writes"));
    let small = ["diverged · seen", "s2 primary", "s1 down"];
    let large = ["diverged", "tl 1→2 of s2 at 0/5A1C3F0", "s1"];
    for (size, wanted) in [((80, 24), small), ((160, 45), large)] {
        let drawn = picture(&models::two_of_one_number(), &view(), size);
        assert!(wanted.iter().all(|part| drawn.contains(part)), "{drawn}");
    }
    both("waiting_election", &models::waiting_election(), &view());
    let waits = picture(&models::waiting_election(), &view(), (80, 24));
    assert!(waits.contains("the election waits for s2") && waits.contains("heartbeat off"), "{waits}");
    for (cut_off, words) in
        [(false, "p is silent: failover in 1.5 s"), (true, "p has lost every standby: failover in 1.5 s")]
    {
        let model = models::counting(cut_off);
        both(if cut_off { "counting_cut_off" } else { "counting" }, &model, &view());
        assert!(picture(&model, &view(), (80, 24)).contains(words));
    }
}

/// A slow link that is cut besides: one word where there is little room, else both.
#[test]
fn beside_a_cut_the_rest_is_told_where_there_is_room() {
    let mut model = models::live(2, "");
    for command in ["slow p s1 80ms", "cut p s1"] {
        let Command::Link(harm, which) = command.parse().unwrap() else { panic!("{command}") };
        let pairs = which.pairs(model.names());
        model.links.harm(pairs, harm);
    }
    let drawn = |size| picture(&model, &view(), size);
    assert!(drawn((160, 45)).contains(" cut + slow 80ms "), "{}", drawn((160, 45)));
    assert!(!drawn((80, 24)).contains("cut + slow"), "{}", drawn((80, 24)));
}

/// In the frame where that is wide enough, else at the primary that began the timeline.
#[test]
fn a_fork_is_told_at_every_size() {
    for size in [(80, 24), (100, 30), (110, 36), (120, 36), (134, 40), (136, 40), (137, 40), (160, 45)] {
        let mut model = models::promoted();
        models::tell(&mut model, 192.0, Who::Lab, Tone::Plain, "s2 streams", &[]);
        let drawn = picture(&model, &view(), size);
        let (header, node) = (drawn.contains("tl 1→2 at 0/5A1C3F0"), drawn.contains("fork 0/5A1C3F0"));
        assert_ne!(header, node, "{size:?}\n{drawn}");
        assert_eq!(header, size.0 > 136, "{size:?}\n{drawn}");
        assert!(drawn.contains(" 3 nodes "), "{size:?}\n{drawn}");
    }
}

/// Clients don't go to a standby while the lab is well, but they will when it is promoted: what is wrong there has a mark.
#[test]
fn what_is_wrong_between_clients_and_a_standby_is_told_there() {
    let mut model = models::live(2, "");
    let Command::Link(harm, which) = "cut client s1".parse().unwrap() else { panic!("that is about a link") };
    let pairs = which.pairs(model.names());
    model.links.harm(pairs, harm);
    for size in [(120, 36), (160, 45)] {
        let drawn = picture(&model, &view(), size);
        let rows: Vec<Vec<char>> = drawn.lines().map(|line| line.chars().collect()).collect();
        let at = |row: usize, text: &str| {
            let line: String = rows[row].iter().collect();
            line.split_once(text).map(|(left, _)| left.chars().count())
        };
        let border = (0..rows.len()).find(|row| at(*row, " ╳ clients cut ").is_some());
        let border = border.unwrap_or_else(|| panic!("{size:?}\n{drawn}"));
        assert_eq!(at(border, " ╳ clients cut "), at(border + 1, " ◇ s1 "), "{size:?}\n{drawn}");
    }
    let drawn = picture(&model, &view(), (80, 24));
    let lines: Vec<&str> = drawn.lines().collect();
    let s1 = lines.iter().position(|line| line.contains("◇ s1 standby")).unwrap();
    assert!(lines[s1 + 1].contains("clients cut"), "{drawn}");
}

#[test]
fn a_lesson() {
    both("lesson", &models::lesson(), &view());
    both("lesson_waits", &models::lesson_waits(), &view());
    both("lesson_asks", &models::lesson_asks(), &view());
    both("lesson_tells", &models::lesson_tells(), &view());
    both("lesson_auto", &models::lesson_auto(), &view());
    both("lesson_stopped", &models::lesson_stopped(), &view());
    both("contents", &models::lesson_asks(), &with(Popup::Contents { picked: None }));
    both("contents_at_the_end", &models::lesson_tells(), &with(Popup::Contents { picked: Some(2) }));
}

/// The picture of a moment of the past, and the keys there.
#[test]
fn the_past() {
    use replab::model::Stamp;
    use replab::ui::past::{PACE, Past, share};
    let (at, end) = (Stamp(190_000_000), Stamp(400_000_000));
    let marks = [31.5, 120.0, 260.0].map(|s| share(models::at(s), end)).to_vec();
    let past = Past { at, end, playing: false, speed: PACE, live: true, marks, last: "freeze s1".into() };
    let view = View { past: Some(past), ..view() };
    both("past", &models::frozen(), &view);
    let help = Popup::Help { filter: Input::default(), scroll: 0 };
    both("past_help", &models::frozen(), &View { popups: vec![help], ..view.clone() });
    let text = picture(&models::frozen(), &View { popups: Vec::new(), ..view }, (80, 24));
    let line = text.lines().nth(22).unwrap();
    assert!(line.matches('╋').count() == 2 && line.matches('┼').count() == 1 && line.ends_with("freeze s1"), "{line}");
}

/// The list of steps tells nothing that is still to be found out.
#[test]
fn the_list_of_steps_spoils_nothing() {
    let at = |model: &Model| picture(model, &with(Popup::Contents { picked: None }), (160, 45));
    let mut model = models::lesson();
    model.script.as_mut().unwrap().steps[2].name = "nothing returns any more".into();
    let begun = at(&model);
    assert!(begun.contains("until something is seen") && begun.contains("Last."), "{begun}");
    assert!(begun.contains("nothing returns any more"), "{begun}");
    let script = model.script.as_mut().unwrap();
    (script.at, script.progress) = (0, replab::model::script::Progress::Fresh);
    script.results.clear();
    let fresh = at(&model);
    assert!(fresh.contains("of what is seen then") && !fresh.contains("nothing returns any more"), "{fresh}");
    let asks = at(&models::lesson_asks());
    assert!(asks.contains("ask    What will the commits do?") && asks.contains("answer to step 4"), "{asks}");
    assert!(!asks.contains("hears nothing") && !asks.contains("Connected, but silent"), "{asks}");
}

/// Enter in the list goes to the chapter of the step under the cursor, but not to the one where the lesson is.
#[test]
fn the_list_of_steps_leads_to_chapters() {
    use replab::model::msg::Playback;
    let model = models::lesson_asks();
    let go = |keys: &[Key]| {
        let mut view = with(Popup::Contents { picked: None });
        keys.iter().flat_map(|key| press(&mut view, &model, *key)).collect::<Vec<_>>()
    };
    assert_eq!(go(&[Key::Enter]), []);
    assert_eq!(go(&[Key::Down, Key::Enter]), []);
    assert_eq!(go(&[Key::Home, Key::Enter]), [Intent::Play(Playback::Restart)]);
    let over = models::lesson_over();
    let mut view = with(Popup::Contents { picked: Some(4) });
    assert_eq!(press(&mut view, &over, Key::Enter), [Intent::Play(Playback::Jump(0))]);
}

fn with(popup: Popup) -> View {
    View { popups: vec![popup], ..view() }
}

#[test]
fn windows() {
    let model = models::frozen();
    both("help", &model, &with(Popup::Help { filter: Input::default(), scroll: 0 }));
    both("help_found", &model, &with(Popup::Help { filter: Input::with("freeze"), scroll: 0 }));
    both("palette", &model, &with(Popup::Palette { input: Input::with("fr"), picked: Some(0) }));
    both("palette_why", &model, &with(Popup::Palette { input: Input::with("promote p"), picked: None }));
    both("confirm", &model, &with(Popup::Confirm { question: Question::Run(Command::Reset), choice: 1 }));
    both(
        "laggard",
        &models::laggard(),
        &with(Popup::Confirm { question: Question::Run(Command::Promote(name("s1"))), choice: 1 }),
    );
    both("quit", &model, &with(Popup::Confirm { question: Question::Quit, choice: 0 }));
    both("rule", &model, &with(Popup::Rule(RuleDraft::new(&model))));
    both("writer", &model, &with(Popup::Writer { line: 1 }));
    both("follow", &model, &with(Popup::Follow { standby: name("s2"), choice: 1 }));
    both("link", &models::links(), &with(Popup::Link(LinkDraft { line: 4, ..LinkDraft::new(name("s1")) })));
    both("steps", &model, &with(Popup::Steps { entry: 0, scroll: 0 }));
    let logs = Popup::Logs { node: name("p"), filter: Input::default(), typing: false, up: 0 };
    both("logs", &models::with_logs(model.clone()), &with(logs));
    both("sql", &model, &with(Popup::Sql { node: name("s2"), input: Input::with("SELECT 1"), scroll: 0 }));
}

#[test]
fn small_and_zoomed() {
    assert_snapshot!("too_small", picture(&models::frozen(), &view(), (48, 10)));
    assert_snapshot!("narrow", picture(&models::frozen(), &view(), (62, 18)));
    for panel in [Panel::Replication, Panel::Latency, Panel::Journal] {
        let view = View { zoom: true, focus: panel, ..view() };
        assert_snapshot!(format!("zoom_{panel:?}"), picture(&models::frozen(), &view, (100, 30)));
    }
}

fn menu() -> StartMenu {
    let entry = |opens, group: &str, number, title: &str, line: &str| Entry {
        opens,
        group: group.into(),
        number,
        title: title.into(),
        line: line.into(),
        done: number == Some(1),
    };
    StartMenu {
        entries: vec![
            entry(Opens::Sandbox, "Sandbox", None, "A primary and two standbys", "writes flow; break what you like"),
            entry(
                Opens::Lesson("01".into()),
                "Basics",
                Some(1),
                "First steps",
                "a write travels: sent, write, flush, replay",
            ),
            entry(
                Opens::Lesson("03".into()),
                "Basics",
                Some(3),
                "Read replicas",
                "a standby may be stale; how stale, measured",
            ),
            entry(
                Opens::Lesson("10".into()),
                "Asynchronous and synchronous",
                Some(10),
                "Freeze is not crash",
                "a frozen standby blocks commits until the primary gives up on it",
            ),
            entry(
                Opens::Leftover("ab12".into()),
                "Left by earlier labs",
                None,
                "lab ab12cd34, 3 containers",
                "its replab is gone; Enter removes it",
            ),
        ],
        picked: 2,
        notes: vec![(
            Tone::Warn,
            "no Docker engine answers: labs run as local processes. `replab doctor` says more".into(),
        )],
        machine: "PostgreSQL 18.6 · docker · postgres:18".into(),
    }
}

#[test]
fn the_start_screen() {
    for size in [(80, 24), (160, 45)] {
        let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
        terminal.draw(|frame| ui::start::render(frame, &menu(), &view())).unwrap();
        assert_snapshot!(format!("start_{}x{}", size.0, size.1), text(terminal.backend().buffer()));
    }
    let mut menu = menu();
    let press = |menu: &mut StartMenu, key| menu.key((80, 24), &KeyInput::Key(key));
    assert_eq!(press(&mut menu, Key::Home), None);
    assert_eq!(press(&mut menu, Key::Enter), Some(StartIntent::Open(Opens::Sandbox)));
    assert_eq!(press(&mut menu, Key::Char('q')), Some(StartIntent::Quit));
}

/// However long it is and however narrow the screen: what one will see there can be read before one goes there.
#[test]
fn the_picked_entry_is_explained_in_full() {
    let mut menu = menu();
    let long = "A standby that is frozen counts as connected, so commits wait for it until the primary gives up on it, \
                a minute later: a killed one is replaced at once.";
    for (picked, size) in (0..menu.entries.len()).flat_map(|n| [(80, 24), (120, 30), (160, 45)].map(|size| (n, size))) {
        (menu.picked, menu.entries[picked].line) = (picked, long.to_owned());
        let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
        terminal.draw(|frame| ui::start::render(frame, &menu, &view())).unwrap();
        let shown = text(terminal.backend().buffer());
        let words: Vec<&str> = shown.split_whitespace().collect();
        assert!(words.join(" ").contains(long), "{size:?}\n{shown}");
    }
}

#[test]
fn ascii_means_ascii() {
    for model in [models::frozen(), models::lesson(), models::busy(), models::starting(), models::links()] {
        let view = View { glyphs: Glyphs::Ascii, ..view() };
        for size in [(80, 24), (160, 45)] {
            assert!(picture(&model, &view, size).is_ascii());
        }
    }
    assert_snapshot!("ascii_120x36", picture(&models::frozen(), &View { glyphs: Glyphs::Ascii, ..view() }, (120, 36)));
}

#[test]
fn without_colours_nothing_has_one() {
    use ratatui::style::{Color, Modifier};
    let buffer = buffer(&models::frozen(), &View::new(ColourMode::None, Shade::Dark), (160, 45));
    assert!(buffer.content.iter().all(|c| c.fg == Color::Reset && c.bg == Color::Reset));
    assert!(buffer.content.iter().any(|c| c.modifier.contains(Modifier::BOLD)));
}

/// How much two colours differ in light, as WCAG reckons it: 1 for the same, 21 for black and white.
fn contrast(one: [u8; 3], other: [u8; 3]) -> f64 {
    let light = |colour: [u8; 3]| {
        let [red, green, blue] = colour.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        });
        0.05 + 0.2126 * red + 0.7152 * green + 0.0722 * blue
    };
    let (one, other) = (light(one), light(other));
    one.max(other) / one.min(other)
}

/// On a light ground no text is light itself, whether replab sets the ground or the terminal has it.
#[test]
fn light_can_be_read() {
    use ratatui::style::Color::{self, Blue, Magenta, Red, Reset};
    let readable = |ink: Color, ground: Color| match (ink, ground) {
        (Color::Rgb(r, g, b), Color::Rgb(red, green, blue)) => contrast([r, g, b], [red, green, blue]) >= 4.5,
        (ink, ground) => [Reset, Red, Blue, Magenta].contains(&ink) && ground == Reset,
    };
    for colours in [ColourMode::Full, ColourMode::Sixteen] {
        let light = View::new(colours, Shade::Light);
        let plain = all_models().into_iter().map(|model| (model, light.clone()));
        let windows =
            popups().into_iter().map(|popup| (models::frozen(), View { popups: vec![popup], ..light.clone() }));
        for (model, view) in plain.chain(windows) {
            for size in [(80, 24), (120, 36), (160, 45)] {
                let drawn = buffer(&model, &view, size);
                let words = drawn.content.iter().filter(|c| c.symbol().contains(char::is_alphanumeric));
                let marks = drawn.content.iter().filter(|_| colours == ColourMode::Sixteen);
                let found = words.chain(marks).find(|c| !readable(c.fg, c.bg));
                assert_eq!(found, None, "{colours:?} {size:?}\n{}", text(&drawn));
            }
        }
    }
}

/// How the first cell of this text looks.
fn style_of(buffer: &Buffer, text: &str) -> ratatui::style::Style {
    let rows = buffer.content.chunks(usize::from(buffer.area.width));
    let found = rows.into_iter().find_map(|row| {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        Some(row[line[..line.find(text)?].chars().count()].style())
    });
    found.unwrap_or_else(|| panic!("no {text}"))
}

/// Without the engine whatever is shown is grey, in the cards, the ladder, the figures and the charts; with it none of that is.
#[test]
fn what_may_be_old_is_grey() {
    use ratatui::style::Modifier;
    let (fresh, mut gone) = (models::loaded(), models::loaded());
    gone.engine_down = Some((models::at(180.0), "refused".into()));
    let large = ["0/5A1BE78", "1.4 kB behind", "900 µs", "███", "48,203", "▅▅▄", "▇███▅▇", "clients 8"];
    let small = ["0/5A1BE78", "1.4 kB behind", "9.0 kB ", "███", "48,203"];
    for (size, values) in [((160, 45), &large[..]), ((80, 24), &small)] {
        let [fresh, gone] = [&fresh, &gone].map(|model| buffer(model, &view(), size));
        for value in values {
            let [fresh, gone] = [&fresh, &gone].map(|buffer| style_of(buffer, value));
            let grey = gone.fg == view().theme.dim.fg && gone.add_modifier.contains(Modifier::DIM);
            assert!(grey, "{value} at {size:?} is {gone:?}");
            assert!(!fresh.add_modifier.contains(Modifier::DIM), "{value} at {size:?} is {fresh:?} without need");
        }
    }
}

fn popups() -> Vec<Popup> {
    let model = models::frozen();
    let input = Input::with("日本 sync first 1 (s1");
    vec![
        Popup::Help { filter: Input::default(), scroll: 3 },
        Popup::Palette { input: input.clone(), picked: Some(9) },
        Popup::Confirm { question: Question::Run(Command::Reset), choice: 1 },
        Popup::Confirm { question: Question::Quit, choice: 2 },
        Popup::Rule(RuleDraft::new(&model)),
        Popup::Writer { line: 3 },
        Popup::Follow { standby: name("s1"), choice: 7 },
        Popup::Sql { node: name("s1"), input: input.clone(), scroll: 4 },
        Popup::Logs { node: name("p"), filter: input, typing: true, up: 99 },
        Popup::Link(LinkDraft { node: name("s1"), with: 9, line: 9, amount: 9 }),
        Popup::Steps { entry: 99, scroll: 99 },
        Popup::Contents { picked: Some(99) },
    ]
}

fn all_models() -> Vec<Model> {
    use models as m;
    vec![
        Model::default(),
        m::starting(),
        m::failed(),
        m::live(0, ""),
        m::loaded(),
        m::with_logs(m::frozen()),
        m::killed(),
        m::promoted(),
        m::stale(),
        m::busy(),
        m::links(),
        m::isolated(),
        m::many(),
        m::lesson(),
        m::lesson_waits(),
        m::lesson_asks(),
        m::lesson_tells(),
        m::lesson_auto(),
        m::lesson_over(),
        m::lesson_stopped(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_size_is_a_problem(width in 1u16..=220, height in 1u16..=60, popup in 0usize..20, which in 0usize..19, focus in 0usize..9, zoom: bool, scroll in 0usize..300) {
        use Panel as P;
        let panels = [P::Cluster, P::Replication, P::Commits, P::Words, P::Writes, P::Latency, P::Throughput, P::Journal, P::Lesson];
        let mut view = View { zoom, glyphs: if zoom { Glyphs::Ascii } else { Glyphs::All }, journal: Some(scroll), ..view() };
        view.focus_on(panels[focus]);
        view.scroll.insert(panels[focus], scroll);
        view.popups = popups().into_iter().nth(popup).into_iter().collect();
        let drawn = buffer(&all_models()[which], &view, (width, height));
        prop_assert_eq!(drawn.area.width, width);
    }

    /// Whatever is pressed and clicked, nothing breaks and the picture can be drawn.
    #[test]
    fn any_keys_may_be_pressed(keys in prop::collection::vec((0usize..70, 0u16..160, 0u16..45), 1..60), which in 0usize..19) {
        let model = &all_models()[which];
        let mut view = View { size: (160, 45), ..view() };
        for (n, x, y) in keys {
            let input = match n {
                0 => KeyInput::Click(x, y),
                1 => KeyInput::Wheel(x % 2 == 0, x, y),
                2 => KeyInput::Paste("fre\neze s1".into()),
                3..9 => KeyInput::Key([Key::Enter, Key::Esc, Key::Tab, Key::Backspace, Key::Left, Key::Down][n - 3]),
                n => KeyInput::Key(keyboard()[n % keyboard().len()]),
            };
            view.key(model, input);
        }
        buffer(model, &view, (160, 45));
    }
}

fn keyboard() -> Vec<Key> {
    replab::keys::TABLE.iter().flat_map(|r| r.keys.iter().copied()).collect()
}

fn press(view: &mut View, model: &Model, key: Key) -> Vec<Intent> {
    view.key(model, KeyInput::Key(key))
}

/// One command out of one key, with the node selected.
fn command(model: &Model, node: &str, key: char) -> Option<String> {
    let mut view = View { node: Some(name(node)), ..view() };
    match press(&mut view, model, Key::Char(key)).pop() {
        Some(Intent::Command(command)) => Some(command.to_string()),
        _ => view.toast.map(|t| t.text),
    }
}

#[test]
fn every_key_is_its_own_and_explained() {
    let keys = keyboard();
    let mut once = keys.clone();
    once.sort_by_key(|k| format!("{k:?}"));
    once.dedup();
    assert_eq!(once.len(), keys.len());
    let table = replab::keys::markdown_table();
    for row in replab::keys::TABLE {
        assert!(!row.help.is_empty() && table.contains(row.help), "{}", row.label);
        assert!(!row.help.ends_with('.') && row.help.len() < 100, "{}", row.help);
    }
    assert_snapshot!("keys_table", table);
}

#[test]
fn keys_give_commands() {
    let model = models::loaded();
    let first = |node, key| command(&model, node, key).unwrap();
    for (node, key, text) in [
        ("s1", 'k', "kill s1"),
        ("s1", 'f', "freeze s1"),
        ("s1", 'x', "cut p s1"),
        ("s2", 'p', "promote s2"),
        ("s1", 'o', "stop s1"),
        ("s1", 'z', "replay pause s1"),
        ("p", 'a', "add s3"),
        ("s1", 'a', "add s3 from s1"),
        ("p", 'S', "sync first 2 (s1, s2)"),
        ("p", 'l', "commit remote_apply"),
        ("p", 'W', "pause"),
        ("p", '1', "write"),
        ("p", '!', "write 100"),
        ("p", 'v', "verify"),
        ("p", 'h', "heartbeat off"),
        ("p", 'p', "not now: p is a primary already"),
        ("p", 'B', "not now: nothing is broken"),
        ("p", 'c', "not now: no commit waits for a standby"),
        ("p", ' ', "not now: no lesson plays"),
    ] {
        assert_eq!(first(node, key), text, "{key}");
    }
    let broken = models::frozen();
    assert_eq!(command(&broken, "s1", 'f').as_deref(), Some("thaw s1"));
    assert_eq!(command(&broken, "s1", 'B').as_deref(), Some("heal"));
    assert_eq!(command(&broken, "p", 'c').as_deref(), Some("cancel"));
    assert_eq!(command(&models::killed(), "p", 'o').as_deref(), Some("start p"));
    assert_eq!(command(&models::busy(), "s1", 'x').as_deref(), Some("heal p s1"));
}

#[test]
fn the_rule_key_goes_round() {
    let mut seen = Vec::new();
    let mut rule = String::new();
    for _ in 0..4 {
        let model = models::live(2, &rule);
        seen.push(command(&model, "p", 'S').unwrap());
        rule = seen
            .last()
            .unwrap()
            .parse::<Command>()
            .map(|c| match c {
                Command::Sync(r) => r.setting(),
                _ => unreachable!(),
            })
            .unwrap();
    }
    assert_eq!(seen, ["sync first 1 (s1, s2)", "sync first 2 (s1, s2)", "sync any 1 (s1, s2)", "sync off"]);
}

#[test]
fn windows_take_keys() {
    let model = models::loaded();
    let mut view = view();
    let keys = |view: &mut View, keys: &[Key]| keys.iter().flat_map(|k| press(view, &model, *k)).collect::<Vec<_>>();
    let typed = |text: &str| text.chars().map(Key::Char).collect::<Vec<_>>();

    assert_eq!(keys(&mut view, &[Key::Char('R'), Key::Enter]), []); // no is the default
    assert_eq!(keys(&mut view, &[Key::Char('R'), Key::Char('y')]), [Intent::Command(Command::Reset)]);
    assert_eq!(keys(&mut view, &[Key::Char('q'), Key::Char('k')]), [Intent::Quit(QuitHow::Keep)]);
    assert_eq!(keys(&mut view, &[Key::Ctrl('c'), Key::Ctrl('c')]), [Intent::Quit(QuitHow::Destroy)]);
    view.popups.clear();
    view.keep = true;
    assert_eq!(keys(&mut view, &[Key::Char('q'), Key::Enter]), [Intent::Quit(QuitHow::Keep)]);
    assert_eq!(keys(&mut view, &[Key::Char('q'), Key::Char('d')]), [Intent::Quit(QuitHow::Destroy)]);
    view.keep = false;

    let mut palette = typed(":fre");
    palette.extend([Key::Tab, Key::Char('s'), Key::Char('1'), Key::Enter]);
    assert_eq!(keys(&mut view, &palette), [Intent::Command(Command::Freeze(name("s1")))]);

    // any 2 (s2), s1 taken off the list
    let rule = [Key::Char('s'), Key::Right, Key::Down, Key::Right, Key::Down, Key::Char(' '), Key::Enter];
    assert_eq!(keys(&mut view, &rule), [Intent::Command("sync any 2 (s2)".parse().unwrap())]);

    let writer = [Key::Char('w'), Key::Right, Key::Down, Key::Left];
    assert_eq!(
        keys(&mut view, &writer),
        [Intent::Command(Command::Clients(12)), Intent::Command("rate 5000".parse().unwrap())]
    );
    assert_eq!(keys(&mut view, &[Key::Esc]), []);
    assert!(view.popups.is_empty());

    // p and its second link, to s2; the fifth act is a delay, and the next longer one.
    let mut link = vec![Key::Char('n'), Key::Tab];
    link.extend([Key::Down; 4]);
    link.extend([Key::Right, Key::Enter]);
    assert_eq!(keys(&mut view, &link), [Intent::Command("slow s2 p 150ms ±20ms".parse().unwrap())]);
    // What can't be done now is refused with the reason, and the window is gone.
    assert_eq!(
        keys(
            &mut view,
            &[
                Key::Char('n'),
                Key::Up,
                Key::Down,
                Key::Down,
                Key::Down,
                Key::Down,
                Key::Down,
                Key::Down,
                Key::Down,
                Key::Enter
            ]
        ),
        []
    );
    assert!(view.toast.take().is_some_and(|t| t.text.contains("nothing is wrong with the link between s1 and p")));

    assert_eq!(keys(&mut view, &[Key::Down, Key::Char('k')]), [Intent::Command(Command::Kill(name("s1")))]);
}

#[test]
fn clicks_find_what_is_drawn() {
    let model = models::frozen();
    for size in [(80, 24), (160, 45)] {
        let mut view = View { size, ..view() };
        let drawn = picture(&model, &view, size);
        let left = |line: &str| line.chars().take(usize::from(size.0) / 3).collect::<String>();
        let (y, line) = drawn.lines().map(left).enumerate().find(|(_, l)| l.contains("◇ s2")).unwrap();
        let x = line.chars().position(|c| c == '◇').unwrap();
        view.key(&model, KeyInput::Click(x as u16, y as u16));
        assert_eq!(view.node, Some(name("s2")), "{size:?}");
        assert_eq!(view.focus, Panel::Cluster);
    }
}

/// Words as they are read, over the ends of lines; frames aside.
fn in_a_row(drawn: &str) -> String {
    let frames = |c: char| "│┃━─╭╮╰╯┏┓┗┛".contains(c);
    drawn.replace(frames, " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `J` and `y` are about the last act, whatever was told since; an entry that is read stays, whatever comes.
#[test]
fn what_stands_behind_the_last_act() {
    let mut model = models::live(2, "");
    let calls = ["docker pause replab-s1"];
    models::tell(&mut model, 1.0, Who::You, Tone::Plain, "freeze s1", &[]);
    models::tell(&mut model, 1.1, Who::Lab, Tone::Warn, "s1 is frozen: connected but silent.", &calls);
    models::tell(&mut model, 1.9, Who::Lab, Tone::Warn, "s1 is silent", &[]);
    let mut view = view();
    press(&mut view, &model, Key::Char('J'));
    for _ in 0..3 {
        let drawn = picture(&model, &view, (160, 45));
        assert!(drawn.contains("▸ docker pause replab-s1") && !drawn.contains("No SQL, file"), "{drawn}");
        models::tell(&mut model, 2.5, Who::Lab, Tone::Plain, "p is asked", &["SELECT 1"]);
    }
    press(&mut view, &model, Key::Esc);
    assert_eq!(press(&mut view, &model, Key::Char('y')), [Intent::Copy("SELECT 1".into())]);
    // The cursor in the journal stays on its entry, too.
    view.focus_on(Panel::Journal);
    for _ in 0..5 {
        press(&mut view, &model, Key::Up);
    }
    models::tell(&mut model, 3.0, Who::Lab, Tone::Plain, "p is asked", &["SELECT 2"]);
    assert_eq!(press(&mut view, &model, Key::Char('y')), [Intent::Copy(calls[0].into())]);
}

/// What isn't done, and why: on the second line, or over what is below; in the journal over as many lines as it takes.
#[test]
fn a_refusal_is_told_whole() {
    let why = "failover failed: only 1 of the 2 required standbys answered. s1 is missing. `failover allow-loss` goes on \
               without, and then acknowledged writes that only s1 has are lost with its promotion, whoever asked for them";
    for size in [(60, 16), (80, 24), (160, 45)] {
        for model in [models::busy(), models::split_brain(), models::stale()] {
            let mut view = view();
            view.say(Tone::Warn, why);
            let drawn = in_a_row(&picture(&model, &view, size));
            assert!(drawn.contains(why), "{size:?}: {drawn}");
            view.popups = vec![Popup::Help { filter: Input::default(), scroll: 0 }];
            let drawn = in_a_row(&picture(&model, &view, size));
            assert!(drawn.contains(why), "{size:?}: {drawn}");
        }
        // By the journal, or by the second line where there is none.
        let mut model = models::busy();
        let now = model.now.0 as f64 / 1e6;
        models::tell(&mut model, now, Who::Outside, Tone::Bad, why, &[]);
        let drawn = in_a_row(&picture(&model, &view(), size));
        assert!(drawn.contains(why), "{size:?}: {drawn}");
        let mut view = view();
        view.focus_on(Panel::Journal);
        let drawn = in_a_row(&picture(&model, &view, size));
        assert!(drawn.contains(why), "{size:?}: {drawn}");
        // The mouse finds the same entry on each of its lines.
        view.size = size;
        let inside = buffer(&model, &view, size);
        let below = (0..size.1).rev().find(|y| (0..size.0).any(|x| inside[(x, *y)].symbol() == "✖"));
        for y in below.into_iter().flat_map(|y| [y, y + 1]) {
            view.key(&model, KeyInput::Click(size.0 / 2, y));
            assert_eq!(view.journal, Some(model.journal.written() - 1), "{size:?} {y}");
        }
    }
}

/// Alt-k is not k; text that comes at once is no row of keys, and goes only where text is typed.
#[test]
fn a_key_counts_with_its_modifiers_and_text_is_no_keys() {
    use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers as Mods};
    let model = models::live(2, "");
    let typed = |code, modifiers| replab::keys::from_event(&Event::Key(KeyEvent::new(code, modifiers)));
    let k = KeyCode::Char('k');
    assert_eq!(typed(k, Mods::NONE), Some(KeyInput::Key(Key::Char('k'))));
    assert_eq!(typed(k, Mods::SHIFT), Some(KeyInput::Key(Key::Char('K'))));
    assert_eq!(typed(k, Mods::CONTROL), Some(KeyInput::Key(Key::Ctrl('k'))));
    for (code, modifiers) in [
        (k, Mods::ALT),
        (k, Mods::SUPER),
        (k, Mods::META),
        (k, Mods::ALT | Mods::SHIFT),
        (k, Mods::ALT | Mods::CONTROL),
        (KeyCode::Enter, Mods::ALT),
        (KeyCode::Esc, Mods::ALT),
        (KeyCode::Down, Mods::CONTROL),
        (KeyCode::Backspace, Mods::ALT),
    ] {
        assert_eq!(typed(code, modifiers), Some(KeyInput::Key(Key::Other)), "{modifiers:?}-{code:?}");
    }
    let mut view = view();
    assert_eq!(press(&mut view, &model, Key::Other), []);
    assert!(view.toast.as_ref().unwrap().text.contains("does nothing here"));
    for text in ["kill p", "k", "q\nd"] {
        assert_eq!(view.key(&model, KeyInput::Burst(text.into())), []);
        assert!(view.popups.is_empty() && view.toast.as_ref().unwrap().text.contains("pasted text does nothing"));
    }
    press(&mut view, &model, Key::Char(':'));
    assert_eq!(view.key(&model, KeyInput::Burst("kill p\n".into())), []);
    assert!(matches!(view.popup(), Some(Popup::Palette { input, .. }) if input.text == "kill p"), "{:?}", view.popups);
    assert_eq!(press(&mut view, &model, Key::Enter), [Intent::Command("kill p".parse().unwrap())]);
    assert_eq!(press(&mut view, &model, Key::Ctrl('z')), [Intent::Suspend]);
}

/// The Linux console has lines and blocks, and neither rounded corners nor signs from further on.
#[test]
fn the_console_gets_what_its_fonts_have() {
    for model in [models::frozen(), models::lesson(), models::busy(), models::links()] {
        let drawn = picture(&model, &View { glyphs: Glyphs::Console, ..view() }, (160, 45));
        assert!(drawn.contains('═') && drawn.contains('│'), "{drawn}");
        let strange = |c: &char| "╭╮╰╯━┃╍┏┓▶▸✔✖❄…–┣⠋".contains(*c) || ('\u{2800}'..='\u{28ff}').contains(c);
        assert_eq!(drawn.chars().find(strange), None, "{drawn}");
    }
}
