//! The program in a pseudo-terminal: keys in, the screen read as a person would see it. Waits for what is on the screen,
//! with a deadline, never for a time.

#![allow(dead_code, reason = "each test program uses another part")]

use std::io::{Read as _, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use base64::Engine as _;
use portable_pty::{CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

use super::house::House;

/// How long something may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// What the program put into the terminal's clipboard last (OSC 52).
#[derive(Default)]
struct Clipboard(Option<String>);

impl vt100::Callbacks for Clipboard {
    fn copy_to_clipboard(&mut self, _: &mut vt100::Screen, _: &[u8], data: &[u8]) {
        let bytes = base64::prelude::BASE64_STANDARD.decode(data).expect("base64");
        self.0 = Some(String::from_utf8(bytes).expect("text"));
    }
}

struct Seen {
    parser: vt100::Parser<Clipboard>,
    /// The terminal is gone: nothing more will come.
    ended: bool,
    /// Nobody looks any more: the reader shall end with what comes next.
    closing: bool,
}

/// A terminal with the program in it.
pub struct Terminal {
    master: Option<Box<dyn MasterPty + Send>>,
    keys: Option<Box<dyn Write + Send>>,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    pid: u32,
    exit: mpsc::Receiver<ExitStatus>,
    over: bool,
    /// What is typed before this belongs to what was typed last.
    hands_free: Instant,
}

fn pty(rows: u16, cols: u16) -> PtySize {
    PtySize { rows, cols, ..PtySize::default() }
}

impl Terminal {
    /// Starts the program in a terminal of this size (columns, rows).
    pub fn start(house: &House, words: &[&str], size: (u16, u16)) -> Self {
        Self::start_in(house, &[], words, size)
    }

    /// The same with more in its environment.
    pub fn start_in(house: &House, more: &[(&str, &str)], words: &[&str], size: (u16, u16)) -> Self {
        let ground = house.ground.args();
        let words: Vec<&str> = words.iter().copied().chain(ground.iter().map(String::as_str)).collect();
        Self::start_anywhere(house, more, &words, size)
    }

    /// The same with these words alone: they say themselves where the lab shall be.
    pub fn start_anywhere(house: &House, more: &[(&str, &str)], words: &[&str], (cols, rows): (u16, u16)) -> Self {
        let pair = native_pty_system().openpty(pty(rows, cols)).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_replab"));
        command.args(words);
        command.cwd("/");
        for (name, value) in house.env() {
            command.env(name, value);
        }
        for (name, value) in more {
            command.env(name, value);
        }
        let mut child = pair.slave.spawn_command(command).unwrap();
        let pid = child.process_id().unwrap();
        drop(pair.slave);
        let seen = Seen {
            parser: vt100::Parser::new_with_callbacks(rows, cols, 0, Clipboard::default()),
            ended: false,
            closing: false,
        };
        let seen = Arc::new((Mutex::new(seen), Condvar::new()));
        read(pair.master.try_clone_reader().unwrap(), Arc::clone(&seen));
        let (told, exit) = mpsc::channel();
        std::thread::spawn(move || told.send(child.wait().unwrap()));
        let keys = pair.master.take_writer().unwrap();
        Self { master: Some(pair.master), keys: Some(keys), seen, pid, exit, over: false, hands_free: Instant::now() }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The screen as text.
    pub fn text(&self) -> String {
        self.seen().parser.screen().contents()
    }

    /// Whether anything on the screen has a colour.
    pub fn has_colours(&self) -> bool {
        let seen = self.seen();
        let screen = seen.parser.screen();
        let (rows, cols) = screen.size();
        let mut cells = (0..rows).flat_map(|row| (0..cols).filter_map(move |col| screen.cell(row, col)));
        cells.any(|cell| [cell.fgcolor(), cell.bgcolor()].iter().any(|colour| *colour != vt100::Color::Default))
    }

    /// Whether anything on the screen has a colour of 24 bits.
    pub fn has_full_colours(&self) -> bool {
        let seen = self.seen();
        let screen = seen.parser.screen();
        let (rows, cols) = screen.size();
        let mut cells = (0..rows).flat_map(|row| (0..cols).filter_map(move |col| screen.cell(row, col)));
        cells.any(|cell| [cell.fgcolor(), cell.bgcolor()].iter().any(|c| matches!(c, vt100::Color::Rgb(..))))
    }

    /// Waits until the screen gives something.
    #[track_caller]
    pub fn until<T>(&self, what: &str, look: impl Fn(&str) -> Option<T>) -> T {
        self.until_parser(what, |parser| look(&parser.screen().contents()))
    }

    /// Waits until the program asks for the mouse, or lets it go.
    #[track_caller]
    pub fn until_mouse(&self, taken: bool) {
        let mode = |parser: &vt100::Parser<Clipboard>| parser.screen().mouse_protocol_mode();
        let is_so = |parser: &_| (mode(parser) != vt100::MouseProtocolMode::None) == taken;
        self.until_parser("the mouse", |parser| is_so(parser).then_some(()));
    }

    /// Waits until the program has the terminal: its own screen, and keys as they are pressed.
    #[track_caller]
    pub fn until_taken(&self) {
        self.until_parser("its own screen", |parser| parser.screen().alternate_screen().then_some(()));
        let modes = self.master.as_ref().and_then(|m| m.get_termios()).map(|m| format!("{:?}", m.local_flags));
        assert!(modes.is_none_or(|modes| !modes.contains("ICANON")), "not raw");
    }

    /// Waits until the program has put something with this in it into the clipboard.
    #[track_caller]
    pub fn until_copied(&self, part: &str) {
        let has = |parser: &vt100::Parser<Clipboard>| parser.callbacks().0.as_ref().is_some_and(|t| t.contains(part));
        self.until_parser(&format!("a copy of {part}"), |parser| has(parser).then_some(()));
    }

    #[track_caller]
    fn until_parser<T>(&self, what: &str, look: impl Fn(&vt100::Parser<Clipboard>) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut seen = self.seen();
        loop {
            if let Some(found) = look(&seen.parser) {
                return found;
            }
            let text = seen.parser.screen().contents();
            assert!(!seen.ended, "the program ended before {what}:\n{text}");
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}:\n{text}");
            seen = self.seen.1.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until this is on the screen.
    #[track_caller]
    pub fn until_text(&self, text: &str) {
        self.until(text, |screen| screen.contains(text).then_some(()));
    }

    /// Waits until this is no longer on the screen.
    #[track_caller]
    pub fn until_no(&self, text: &str) {
        self.until(&format!("no more {text}"), |screen| (!screen.contains(text)).then_some(()));
    }

    /// Types; all of it at once, so that several keys that type something are text.
    pub fn keys(&mut self, text: &str) {
        // A person doesn't press a key in the twentieth of a second after an escape, nor after having pasted something.
        std::thread::sleep(self.hands_free.saturating_duration_since(Instant::now()));
        let keys = self.keys.as_mut().unwrap();
        keys.write_all(text.as_bytes()).and_then(|()| keys.flush()).unwrap();
        let is_key = text.chars().count() == 1 && text != "\x1b";
        self.hands_free = Instant::now() + if is_key { Duration::ZERO } else { Duration::from_millis(200) };
    }

    /// Gives a command at the `:` prompt, and waits until the prompt has gone.
    #[track_caller]
    pub fn command(&mut self, text: &str) {
        self.keys(":");
        self.until_text("type a command");
        self.keys(text);
        self.until_text(&format!(": {text}"));
        self.keys("\r");
        self.until_no("Tab completes");
    }

    /// Makes the terminal this large (columns, rows).
    pub fn resize(&self, cols: u16, rows: u16) {
        {
            // What was there is gone: the program draws everything anew, and nothing old is taken for new.
            let mut seen = self.seen();
            seen.parser.screen_mut().set_size(rows, cols);
            seen.parser.process(b"\x1b[2J");
        }
        self.master.as_ref().unwrap().resize(pty(rows, cols)).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid.cast_signed()).unwrap(), signal).unwrap();
    }

    /// The terminal's window is closed: the program gets SIGHUP and no more input.
    pub fn close_window(&mut self) {
        self.close_window_after("", 0);
    }

    /// The same right after this key was typed so many times, about as fast as the program takes them.
    pub fn close_window_after(&mut self, key: &str, times: usize) {
        // The clock on the screen goes on, so something comes; the reader's end of the terminal is closed with it.
        self.seen().closing = true;
        self.until_ended();
        self.master = None;
        for _ in 0..times {
            self.keys(key);
            std::thread::sleep(Duration::from_micros(100));
        }
        // The last that holds the terminal. It types Enter and ^D (portable-pty does that).
        self.keys = None;
    }

    /// Waits for the end; the exit code.
    #[track_caller]
    pub fn exit(&mut self) -> u32 {
        let Ok(status) = self.exit.recv_timeout(DEADLINE) else { panic!("it doesn't end:\n{}", self.text()) };
        self.over = true;
        self.until_ended();
        assert!(!self.text().contains("panicked"), "{}", self.text());
        if status.signal().is_some() { 255 } else { status.exit_code() }
    }

    fn until_ended(&self) {
        let end = Instant::now() + DEADLINE;
        let mut seen = self.seen();
        while !seen.ended {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "somebody still holds the terminal");
            seen = self.seen.1.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The terminal is as it was before: main screen, cursor, no mouse, no raw mode.
    #[track_caller]
    pub fn assert_restored(&self) {
        let seen = self.seen();
        let screen = seen.parser.screen();
        assert!(!screen.alternate_screen(), "still on the alternate screen");
        assert!(!screen.hide_cursor(), "the cursor is still hidden");
        assert!(!screen.bracketed_paste(), "bracketed paste is still on");
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        if let Some(modes) = self.master.as_ref().and_then(|m| m.get_termios()) {
            let modes = format!("{:?}", modes.local_flags);
            assert!(modes.contains("ICANON") && modes.contains("ECHO"), "still raw: {modes}");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // A failed test: the program is asked to end, and given the time to take its lab along.
        let _ = kill_process(Pid::from_raw(self.pid.cast_signed()).unwrap(), Signal::TERM);
        let _ = kill_process(Pid::from_raw(self.pid.cast_signed()).unwrap(), Signal::CONT);
        if self.exit.recv_timeout(Duration::from_secs(30)).is_err() {
            let _ = kill_process(Pid::from_raw(self.pid.cast_signed()).unwrap(), Signal::KILL);
            drop(self.exit.recv_timeout(Duration::from_secs(5)));
        }
    }
}

/// Takes in what the program draws until it is gone.
fn read(mut from: Box<dyn std::io::Read + Send>, seen: Arc<(Mutex<Seen>, Condvar)>) {
    std::thread::spawn(move || {
        let mut bytes = [0; 16 * 1024];
        loop {
            // Linux says EIO when the last program has closed the terminal.
            let count = from.read(&mut bytes).unwrap_or(0);
            let mut now = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
            now.parser.process(&bytes[..count]);
            if count == 0 || now.closing {
                drop(from);
                now.ended = true;
                seen.1.notify_all();
                return;
            }
            seen.1.notify_all();
        }
    });
}

/// The number that follows a word on the screen: `acked   48,203`.
pub fn number_after(screen: &str, word: &str) -> Option<u64> {
    let rest = &screen[screen.find(word)? + word.len()..];
    let text: String =
        rest.trim_start_matches([' ', ':']).chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    text.replace(',', "").parse().ok()
}

/// All LSNs on the screen.
pub fn lsns(screen: &str) -> Vec<u64> {
    let tokens = screen.split(|c: char| !(c.is_ascii_hexdigit() || c == '/'));
    let lsn = |token: &str| {
        let (high, low) = token.split_once('/')?;
        let part = |text: &str| u64::from_str_radix(text, 16).ok();
        (low.len() >= 5).then_some((part(high)? << 32) + part(low)?)
    };
    tokens.filter_map(lsn).collect()
}
