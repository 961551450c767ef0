//! Who owns a lab, and whether that process still lives. Knows process ids and files, no containers and no servers.
//!
//! A process id alone proves nothing, because ids are used again: the start time and the kernel's boot id go with it. So does the PID
//! namespace, outside of which the id names nobody: a replab in a container may share the host's engine.
//! Where there is no `/proc` (other systems than Linux) only the id is left, and a lab counts as alive while it exists.

use std::fs;

use rustix::process::{Pid, geteuid, test_kill_process};

use super::Owner;

/// Label keys, as containers and `lab.json` carry them.
pub mod label {
    /// The lab's id. Nothing without it is ever touched.
    pub const LAB: &str = "replab.lab";
    /// The owner's process id.
    pub const PID: &str = "replab.owner";
    /// The owner's start time.
    pub const START: &str = "replab.owner.start";
    /// The kernel's boot id.
    pub const BOOT: &str = "replab.owner.boot";
    /// The owner's PID namespace.
    pub const PID_NS: &str = "replab.owner.pidns";
    /// The owner's user id.
    pub const UID: &str = "replab.owner.uid";
}

/// A new lab id: 8 lower-case hexadecimal digits.
pub fn new_lab_id() -> String {
    format!("{:08x}", fastrand::u32(..))
}

/// Whether this text has the form of a lab id.
pub fn is_lab_id(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// This process as the owner of lab `lab`.
pub fn current(lab: impl Into<String>) -> Owner {
    let pid = std::process::id().cast_signed();
    Owner {
        lab: lab.into(),
        pid,
        pid_start: start_time(pid).unwrap_or_default(),
        boot_id: boot_id(),
        pid_ns: pid_namespace(),
        uid: geteuid().as_raw(),
    }
}

/// Whether the owner still runs: same boot, same process id, same start time.
///
/// One of another PID namespace can't be looked at from here. It counts as alive until the next boot: to leave a dead lab to
/// `clean --all` is better than to destroy a live one.
pub fn alive(owner: &Owner) -> bool {
    if !cfg!(target_os = "linux") {
        return exists(owner.pid);
    }
    owner.boot_id == boot_id() && (is_elsewhere(owner) || start_time(owner.pid) == Some(owner.pid_start))
}

/// Whether the owner's process id is of another PID namespace, as far as both are known.
fn is_elsewhere(owner: &Owner) -> bool {
    let here = pid_namespace();
    !owner.pid_ns.is_empty() && !here.is_empty() && owner.pid_ns != here
}

/// The owner as labels, for containers and networks.
pub fn to_labels(owner: &Owner) -> Vec<(String, String)> {
    let pair = |key: &str, value: String| (key.to_owned(), value);
    vec![
        pair(label::LAB, owner.lab.clone()),
        pair(label::PID, owner.pid.to_string()),
        pair(label::START, owner.pid_start.to_string()),
        pair(label::BOOT, owner.boot_id.clone()),
        pair(label::PID_NS, owner.pid_ns.clone()),
        pair(label::UID, owner.uid.to_string()),
    ]
}

/// Reads the owner back from labels; None when one is missing or isn't what `to_labels` writes.
pub fn from_labels<'a>(value_of: impl Fn(&str) -> Option<&'a str>) -> Option<Owner> {
    let lab = value_of(label::LAB).filter(|id| is_lab_id(id))?;
    Some(Owner {
        lab: lab.to_owned(),
        pid: value_of(label::PID)?.parse().ok()?,
        pid_start: value_of(label::START)?.parse().ok()?,
        boot_id: value_of(label::BOOT)?.to_owned(),
        // Labs of earlier versions don't say it.
        pid_ns: value_of(label::PID_NS).unwrap_or_default().to_owned(),
        uid: value_of(label::UID)?.parse().ok()?,
    })
}

/// The kernel's boot id; empty where the system has none.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// This process's PID namespace; empty where it can't be read.
fn pid_namespace() -> String {
    fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a process with this id exists, whoever owns it.
pub fn exists(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid).filter(|pid| pid.as_raw_pid() > 0) else { return false };
    matches!(test_kill_process(pid), Ok(()) | Err(rustix::io::Errno::PERM))
}

/// The start time of a live process in clock ticks since boot; None when it is gone, a zombie, or can't be read.
fn start_time(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Stat::parse(&text).filter(|stat| !stat.is_dead()).map(|stat| stat.start)
}

/// What `/proc/PID/stat` tells of a process (proc(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Field 2: the program's name, at most 15 bytes.
    pub name: String,
    /// Field 3: R, S, D, T (stopped), Z (zombie) and so on.
    pub state: char,
    /// Field 4: the parent.
    pub parent: i32,
    /// Field 22: clock ticks since boot at its start.
    pub start: u64,
}

impl Stat {
    /// Reads one line; the name is in brackets and may hold brackets and blanks itself.
    pub fn parse(line: &str) -> Option<Self> {
        let open = line.find('(')?;
        let close = line.rfind(')')?;
        let name = line.get(open + 1..close)?.to_owned();
        let fields: Vec<&str> = line.get(close + 1..)?.split_whitespace().collect();
        Some(Self {
            name,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether it has ended already and only waits for its parent to notice.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_a_changed_start_time_does_not() {
        let me = current(new_lab_id());
        assert!(alive(&me));
        if cfg!(target_os = "linux") {
            assert!(!alive(&Owner { pid_start: me.pid_start + 1, ..me.clone() }));
            assert!(!alive(&Owner { boot_id: "another".to_owned(), ..me.clone() }));
        }
        assert!(!alive(&Owner { pid: -1, ..me }));
    }

    #[test]
    fn an_owner_in_another_namespace_lives_until_the_next_boot() {
        let me = current(new_lab_id());
        if me.pid_ns.is_empty() {
            return;
        }
        let elsewhere = Owner { pid: -1, pid_ns: "pid:[1]".to_owned(), ..me.clone() };
        assert!(alive(&elsewhere));
        assert!(!alive(&Owner { boot_id: "another".to_owned(), ..elsewhere.clone() }));
        assert!(!alive(&Owner { pid_ns: me.pid_ns, ..elsewhere.clone() }));
        assert!(!alive(&Owner { pid_ns: String::new(), ..elsewhere }), "an earlier version's, looked for here");
    }

    #[test]
    fn an_owner_of_an_earlier_version_is_read() {
        let old = r#"{"lab": "0011aabb", "pid": 7, "pid_start": 99, "boot_id": "boot", "uid": 1000}"#;
        let old: Owner = serde_json::from_str(old).expect("an owner");
        let labels = to_labels(&old);
        let of_old = labels.iter().filter(|(key, _)| key != label::PID_NS);
        let value_of = |key: &str| of_old.clone().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
        assert_eq!(from_labels(value_of), Some(old));
    }

    #[test]
    fn labels_read_back() {
        let me = current(new_lab_id());
        let labels = to_labels(&me);
        let value_of = |key: &str| labels.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
        assert_eq!(from_labels(value_of), Some(me));
        assert_eq!(from_labels(|_| None), None);
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let line = "7 (a) S 1) T 42 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 987 0 0";
        let stat = Stat::parse(line).expect("a stat line");
        assert_eq!((stat.name.as_str(), stat.state, stat.parent, stat.start), ("a) S 1", 'T', 42, 987));
        assert_eq!(Stat::parse("7 (short) S 1"), None);
    }
}
