//! The screen: the terminal taken and given back, the start menu, and a lab's loop of keys, messages and frames.

use std::io::{self, Stdout, Write};
use std::mem::ManuallyDrop;
use std::time::Duration;

use color_eyre::eyre::{Result, WrapErr, eyre};
use crossterm::clipboard::CopyToClipboard;
use crossterm::event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Frame, Terminal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::inputs::{Inputs, Typed};
use super::past::Winder;
use super::plain;
use super::progress::Keeper;
use super::reach;
use super::session::{Came, Session};
use super::signals::Ended;
use super::suspend::{self, Job, Jobs};
use crate::cli::{Common, exit};
use crate::keys::past::Wind;
use crate::keys::{self, Intent, Key, KeyInput, QuitHow, StartIntent};
use crate::model::Stamp;
use crate::model::journal::Tone;
use crate::model::msg::{Msg, Origin};
use crate::recording::Reel;
use crate::recording::reel::Film;
use crate::runtime::Runtime;
use crate::ui::start::{Opens, StartMenu};
use crate::ui::{self, ColourMode, Glyphs, Shade, View};

/// Time passes for the model, and the clock on the screen, this often.
const TICK: Duration = Duration::from_millis(100);
/// Frames come no closer than this.
const FRAME: Duration = Duration::from_millis(33);
/// What comes all the time anyway is shown this long after the last frame: drawing is what an idle lab costs most.
const CALM: Duration = Duration::from_millis(150);

/// Looking at the past begins this long before now.
const STEP_BACK_US: u64 = 5_000_000;

/// How the screen was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// By the person.
    Quit(QuitHow),
    /// The terminal is gone.
    Gone,
    /// By a signal: the exit code it stands for.
    Signal(u8),
}

/// The terminal, taken; given back when dropped, also on panic.
struct Screen {
    /// Never dropped: its own end shows the cursor (as `give_back` does), and where the window is gone it panics because it
    /// can't say so on standard error.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    inputs: Inputs,
    jobs: Jobs,
    /// It is given back for now: nothing is drawn.
    away: bool,
}

impl Screen {
    fn take() -> Result<Self> {
        // crossterm drops bold and reverse too under NO_COLOR; the screen takes its colours out itself.
        crossterm::style::force_color_output(true);
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back();
            hook(info);
        }));
        take().wrap_err("can't take the terminal")?;
        let terminal = ManuallyDrop::new(Terminal::new(CrosstermBackend::new(io::stdout()))?);
        Ok(Self { terminal, inputs: Inputs::begin(), jobs: Jobs::begin(), away: false })
    }

    /// The next thing the person does; None when the terminal is gone.
    async fn input(&mut self) -> Option<KeyInput> {
        loop {
            tokio::select! {
                typed = self.inputs.next() => match typed? {
                    Typed::Burst(text) => return Some(KeyInput::Burst(text)),
                    Typed::Event(event) => {
                        if let Some(input) = keys::from_event(&event) {
                            return Some(input);
                        }
                    }
                },
                job = self.jobs.next() => match job {
                    Job::Stop => self.stop().ok()?,
                    Job::GoOn => {
                        self.take_again().ok()?;
                        let (width, height) = self.size();
                        return Some(KeyInput::Resized(width, height));
                    }
                },
            }
        }
    }

    /// Gives the terminal back and stops. It is taken again when the signal to go on is heard of.
    fn stop(&mut self) -> io::Result<()> {
        // The kernel stops no first process, as replab is in a container of its own: nothing would tell it to go on.
        if std::process::id() == 1 {
            return Ok(());
        }
        self.away = true;
        give_back();
        drop(plain::print(&format!("replab is stopped: `fg`, or `kill -CONT {}`, goes on\n", std::process::id())));
        suspend::stop()
    }

    /// After a stop, whoever had the terminal meanwhile may have set it as they like.
    fn take_again(&mut self) -> io::Result<()> {
        disable_raw_mode()?;
        take()?;
        self.away = false;
        self.draw_anew()
    }

    /// The next frame draws everything. Not by ratatui's own `clear`: that asks the terminal where the cursor is, and an answer that
    /// doesn't come, or goes to whoever reads the keys, would be the end of the lab.
    fn draw_anew(&mut self) -> io::Result<()> {
        let (width, height) = self.size();
        self.terminal.resize(Rect::new(0, 0, width, height))
    }

    /// Draws, unless the terminal is given back.
    fn draw(&mut self, draw: impl FnOnce(&mut Frame)) -> io::Result<()> {
        if self.away { Ok(()) } else { self.terminal.draw(draw).map(|_| ()) }
    }

    fn size(&self) -> (u16, u16) {
        self.terminal.size().map_or((80, 24), |s| (s.width, s.height))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _hook = std::panic::take_hook();
        give_back();
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, EnableBracketedPaste)
}

/// Whatever of it fails, the rest is still tried.
fn give_back() {
    drop(execute!(io::stdout(), DisableBracketedPaste, DisableMouseCapture, LeaveAlternateScreen));
    drop(disable_raw_mode());
    drop(execute!(io::stdout(), crossterm::cursor::Show));
}

/// The view as this terminal allows it.
fn view(common: &Common, size: (u16, u16)) -> View {
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    let colours = if common.no_color || !set("NO_COLOR").is_empty() {
        ColourMode::None
    } else {
        ColourMode::told(&set("TERM"), &set("COLORTERM"))
    };
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(set).into_iter().find(|v| !v.is_empty()).unwrap_or_default();
    let utf8 = locale.to_ascii_lowercase().replace('-', "").contains("utf8");
    let shade = common.theme.shade(Shade::told(&set("COLORFGBG")));
    View { glyphs: Glyphs::told(&set("TERM"), utf8), size, ..View::new(colours, shade) }
}

/// Shows the start menu until something is chosen; else the exit code to leave with.
pub async fn choose(common: &Common, mut menu: StartMenu, ended: &mut Ended) -> Result<Result<Opens, u8>> {
    let mut screen = Screen::take()?;
    let view = view(common, screen.size());
    loop {
        // What can't be written to is gone, here and below: the hang-up itself may be told later.
        if screen.draw(|frame| ui::start::render(frame, &menu, &view)).is_err() {
            return Ok(Err(exit::HUNG_UP));
        }
        let input = tokio::select! {
            input = screen.input() => input,
            code = &mut *ended => return Ok(Err(code)),
        };
        let Some(input) = input else { return Ok(Err(exit::HUNG_UP)) };
        match menu.key(screen.size(), &input) {
            Some(StartIntent::Open(opens)) => return Ok(Ok(opens)),
            Some(StartIntent::Quit) => return Ok(Err(exit::OK)),
            Some(StartIntent::Redraw) => drop(screen.draw_anew()),
            Some(StartIntent::Suspend) => drop(suspend::ask()),
            None => {}
        }
    }
}

/// Shows a lab until it is left; `keep` is what leaving means unless the person says otherwise.
pub async fn show<R: Runtime>(
    common: &Common,
    keep: bool,
    session: &mut Session<R>,
    ended: &mut Ended,
) -> Result<Left> {
    let mut screen = Screen::take()?;
    let mut view = View { keep, ..view(common, screen.size()) };
    let mut clock = interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    let mut due = last;
    let mut past: Option<Winder> = None;
    let mut keeper = Keeper::default();
    loop {
        if let Some(said) = keeper.look(&session.model) {
            view.say(Tone::Warn, said);
        }
        if Instant::now() >= due {
            follow_time(&mut past, session, &mut view);
            let model = past.as_ref().map_or(&session.model, Winder::model);
            view.turn_over(model);
            if screen.draw(|frame| ui::render(frame, model, &view)).is_err() {
                return Ok(Left::Gone);
            }
            last = Instant::now();
            due = last + if past.as_ref().is_some_and(Winder::is_playing) { FRAME } else { CALM };
        }
        tokio::select! {
            came = session.next() => if came == Came::News { due = last + FRAME },
            _ = clock.tick() => session.take(Msg::Tick),
            () = sleep_until(due) => {}
            input = screen.input() => {
                let Some(input) = input else { return Ok(Left::Gone) };
                due = last + FRAME;
                let intents = view.key(past.as_ref().map_or(&session.model, Winder::model), input);
                for intent in intents {
                    if let Intent::Past | Intent::Wind(_) = intent {
                        wind(&mut past, session, &mut view, &intent);
                    } else if let Some(left) = obey(session, &mut screen, intent).unwrap_or(Some(Left::Gone)) {
                        return Ok(left);
                    }
                }
            }
            code = &mut *ended => return Ok(Left::Signal(code)),
        }
    }
}

/// While one looks at the past: time there goes on.
fn follow_time<R: Runtime>(past: &mut Option<Winder>, session: &mut Session<R>, view: &mut View) {
    let (Some(winder), Some(recorder)) = (past.as_mut(), session.recorder.as_mut()) else {
        view.past = None;
        return;
    };
    if let Err(why) = winder.go_on(&recorder.reel, &recorder.film) {
        *past = None;
        view.past = None;
        return view.say(Tone::Bad, format!("the recording can't be read: {why}"));
    }
    view.past = Some(winder.told(&recorder.reel, true));
}

/// Into the past, about in it, or back to now.
fn wind<R: Runtime>(past: &mut Option<Winder>, session: &mut Session<R>, view: &mut View, intent: &Intent) {
    let Some(recorder) = session.recorder.as_mut() else {
        return view.say(Tone::Warn, "not now: this lab is not recorded; the log says why");
    };
    // Only where the last moment is asked for: each time makes a part of its own, and by parts keyframes are counted.
    if matches!(intent, Intent::Past | Intent::Wind(Wind::End)) {
        recorder.flush();
    }
    let (reel, film) = (&recorder.reel, &recorder.film);
    let done = match (intent, past.as_mut()) {
        (Intent::Wind(Wind::Leave), _) => {
            *past = None;
            Ok(())
        }
        (Intent::Wind(move_), Some(winder)) => winder.wind(*move_, reel, film),
        // A little before now, so that one sees at once that it is another moment.
        _ => Winder::at(reel, film, Stamp(reel.end().0.saturating_sub(STEP_BACK_US))).map(|there| *past = Some(there)),
    };
    if let Err(why) = done {
        *past = None;
        view.say(Tone::Bad, format!("the recording can't be read: {why}"));
    }
    follow_time(past, session, view);
}

/// Shows a recording until it is left.
pub async fn replay(
    common: &Common,
    film: &impl Film,
    reel: &Reel,
    damage: Option<String>,
    ended: &mut Ended,
) -> Result<u8> {
    let mut screen = Screen::take()?;
    let mut view = view(common, screen.size());
    let failed = |why: String| eyre!("the recording can't be read: {why}");
    let mut winder = Winder::at(reel, film, Stamp(0)).map_err(failed)?;
    winder.wind(Wind::Play, reel, film).map_err(failed)?;
    if let Some(why) = damage {
        view.say(Tone::Bad, why);
    }
    loop {
        winder.go_on(reel, film).map_err(failed)?;
        view.past = Some(winder.told(reel, false));
        view.turn_over(winder.model());
        if screen.draw(|frame| ui::render(frame, winder.model(), &view)).is_err() {
            return Ok(exit::HUNG_UP);
        }
        let input = tokio::select! {
            input = screen.input() => input,
            () = tokio::time::sleep(FRAME), if winder.is_playing() => continue,
            code = &mut *ended => return Ok(code),
        };
        let Some(input) = input else { return Ok(exit::HUNG_UP) };
        for intent in view.key(winder.model(), input) {
            match intent {
                Intent::Wind(Wind::Leave) | Intent::Quit(_) => return Ok(exit::OK),
                Intent::Wind(move_) => winder.wind(move_, reel, film).map_err(failed)?,
                other => drop(aside(&mut screen, other)?),
            }
        }
    }
}

/// Follows the presenter's notes of a lab until it ends (None), or until the person or a signal ends this.
pub async fn notes(common: &Common, line: &mut reach::Line, ended: &mut Ended) -> Result<Option<u8>> {
    let mut screen = Screen::take()?;
    let view = view(common, screen.size());
    let mut notes = None;
    let mut clock = interval(Duration::from_secs(1));
    loop {
        let (lab, age) = (line.lab.clone(), line.age());
        if screen.draw(|frame| ui::notes::render(frame, &lab, notes.as_ref(), age, &view)).is_err() {
            return Ok(Some(exit::HUNG_UP));
        }
        tokio::select! {
            told = line.notes() => match told {
                Some(now) => notes = now,
                None => return Ok(None),
            },
            _ = clock.tick() => {}
            input = screen.input() => match input {
                Some(KeyInput::Key(Key::Char('q') | Key::Esc | Key::Ctrl('c'))) => return Ok(Some(exit::OK)),
                Some(KeyInput::Key(Key::Ctrl('z'))) => suspend::ask()?,
                Some(_) => {}
                None => return Ok(Some(exit::HUNG_UP)),
            },
            code = &mut *ended => return Ok(Some(code)),
        }
    }
}

/// Does what a key asks; says how the screen is left, if it is.
fn obey<R: Runtime>(session: &mut Session<R>, screen: &mut Screen, intent: Intent) -> io::Result<Option<Left>> {
    match intent {
        Intent::Command(command) => session.ask(command, Origin::You),
        Intent::Play(key) => session.take(Msg::Play(key)),
        Intent::Quit(how) => return Ok(Some(Left::Quit(how))),
        other => aside(screen, other)?,
    }
    Ok(None)
}

/// What concerns the terminal alone.
fn aside(screen: &mut Screen, intent: Intent) -> io::Result<()> {
    let mut out = io::stdout();
    match intent {
        Intent::Redraw => screen.draw_anew()?,
        Intent::Suspend => suspend::ask()?,
        Intent::Copy(text) => execute!(out, CopyToClipboard::to_clipboard_from(text))?,
        Intent::Mouse(true) => execute!(out, EnableMouseCapture)?,
        Intent::Mouse(false) => execute!(out, DisableMouseCapture)?,
        Intent::Command(_) | Intent::Play(_) | Intent::Quit(_) | Intent::Past | Intent::Wind(_) => {}
    }
    out.flush()
}
