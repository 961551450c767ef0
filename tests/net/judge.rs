//! Where what the screen said contradicts both answers, the one before it and the one after. What only one of them contradicts may have
//! been so in between; what no server answered about is nobody's to judge.

use super::screen::{NodeSays, Screen, SessionSays, WaitSays};
use super::servers::{Answer, Answers, Sender};

/// A standby that owes a reply and has sent none for so long is silent; the lab says so after half a second.
const SILENT_MS: f64 = 1_500.0;
/// A reply younger than this comes from one that answers.
const LIVELY_MS: f64 = 300.0;
/// A backend that ends while it is looked at is still listed for a moment.
const SETTLED_MS: u64 = 200;

/// One untrue statement: of what kind, and what both said.
#[derive(Clone, Debug)]
pub struct Finding {
    pub kind: &'static str,
    pub text: String,
}

fn finding(kind: &'static str, text: String) -> Finding {
    Finding { kind, text }
}

/// Both answers of one server that lived on between them.
#[derive(Clone, Copy)]
struct Pair<'a> {
    before: &'a Answer,
    after: &'a Answer,
}

/// Everything that the answers before and after contradict. `since`: when the answers before were complete, in microseconds of the lab's
/// life; what was looked at before that is not judged. `window_ms`: from then to the screen.
pub fn contradictions(before: &Answers, screen: &Screen, after: &Answers, since: u64, window_ms: u64) -> Vec<Finding> {
    let net = Net { before, after, screen, since, window_ms };
    let of_nodes = screen.nodes.iter().filter(|n| n.looked >= since).flat_map(|n| net.node(n));
    let of_waits = screen.waits.iter().flat_map(|w| [net.wait_is_there(w), net.wait_is_for(w)]);
    let of_sessions = screen.sessions.iter().map(|s| net.session(s));
    of_nodes.chain(of_waits).chain(of_sessions).chain([net.rule(), net.stuck()]).flatten().collect()
}

struct Net<'a> {
    before: &'a Answers,
    after: &'a Answers,
    screen: &'a Screen,
    since: u64,
    window_ms: u64,
}

impl<'a> Net<'a> {
    /// Both answers of a node, of the same life of its server.
    fn pair(&self, name: &str) -> Option<Pair<'a>> {
        let (before, after) = (self.before.get(name)?, self.after.get(name)?);
        #[expect(clippy::float_cmp, reason = "the same server says the same number")]
        let same = before.started == after.started && before.recovery == after.recovery;
        same.then_some(Pair { before, after })
    }

    /// Whether what the screen says of that node is of a look taken between the two answers.
    fn looked_between(&self, name: &str) -> bool {
        self.screen.nodes.iter().any(|n| n.name == name && n.answers && n.looked >= self.since)
    }

    fn node(&self, node: &NodeSays) -> Vec<Option<Finding>> {
        let Some(pair) = self.pair(&node.name).filter(|_| node.answers) else { return Vec::new() };
        let mut all = vec![role(node, pair), timeline(node, pair), self.paused(node, pair)];
        all.extend(slots(node, pair));
        let upstream = node.upstream.as_ref().filter(|up| self.looked_between(up));
        if let Some(upper) = upstream.and_then(|up| self.pair(up)) {
            all.extend([
                stream(node, pair, upper),
                sync_state(node, upper),
                behind(node, pair, upper),
                rows(node, pair, upper),
            ]);
        }
        all
    }

    /// Whether replay stands still and by whose order: PostgreSQL pauses it itself where a limit is lower than the primary's.
    fn paused(&self, node: &NodeSays, pair: Pair) -> Option<Finding> {
        let said = node.paused.as_deref()?;
        let pauses = [pair.before, pair.after].map(|a| a.pause.as_deref().is_some_and(|p| p != "not paused"));
        let upper = node.upstream.as_ref().and_then(|up| self.pair(up));
        let short = upper.is_some_and(|up| {
            pair.after.limits.iter().any(|(name, limit)| up.after.limits.get(name).is_some_and(|upper| upper > limit))
        });
        let text = |truth: &str| format!("replay on {}: said to be paused by {said}; {truth}", node.name);
        match (said, pauses) {
            ("nobody", [true, true]) => Some(finding("pause", text("it is paused"))),
            ("person" | "postgresql", [false, false]) => Some(finding("pause", text("it isn't"))),
            ("postgresql", [true, true]) if upper.is_some() && !short => {
                Some(finding("pause", text("no limit is too low")))
            }
            _ => None,
        }
    }

    fn rule(&self) -> Option<Finding> {
        let (server, said) = self.screen.rule.as_ref()?;
        let pair = self.pair(server).filter(|_| self.looked_between(server))?;
        (pair.before.rule == pair.after.rule && pair.before.rule != *said)
            .then(|| finding("rule", format!("{server} is said to have `{said}`, and has `{}`", pair.before.rule)))
    }

    /// A commit that is said to have waited since before the first answers stands in them.
    fn wait_is_there(&self, wait: &WaitSays) -> Option<Finding> {
        let pair = self.pair(&wait.server).filter(|_| self.looked_between(&wait.server))?;
        let old = wait.age_ms > self.window_ms + SETTLED_MS;
        let unseen = !pair.before.waits.contains_key(&wait.pid) && !pair.after.waits.contains_key(&wait.pid);
        (old && unseen).then(|| {
            let text =
                format!("pid {} is said to wait on {} for {} ms; it doesn't", wait.pid, wait.server, wait.age_ms);
            finding("wait", text)
        })
    }

    /// Nobody is waited for who isn't listed, or has confirmed all that the server had when the commit waited already.
    fn wait_is_for(&self, wait: &WaitSays) -> Option<Finding> {
        let pair = self.pair(&wait.server).filter(|_| self.looked_between(&wait.server))?;
        let (a, b) = pair.before.waits.get(&wait.pid).zip(pair.after.waits.get(&wait.pid))?;
        // The same commit, not the next one of that backend.
        #[expect(clippy::float_cmp, reason = "the same statement has the same beginning")]
        if a.began != b.began {
            return None;
        }
        let rule = pair.before.rule.to_ascii_lowercase();
        let text = |name: &str, truth: &str| {
            Some(finding("wait", format!("pid {} on {} is said to wait for {name}, {truth}", wait.pid, wait.server)))
        };
        wait.on.iter().find_map(|name| {
            if rule == pair.after.rule.to_ascii_lowercase() && !rule.contains('*') && !lists(&rule, name) {
                return text(name, &format!("and the rule is `{rule}`"));
            }
            let confirmed = same(pair, name).and_then(|(_, b)| b.replay).is_some_and(|at| at >= pair.before.end);
            if confirmed { text(name, "and it has confirmed all there was") } else { None }
        })
    }

    /// Where enough who count confirm what comes, and nobody waits, commits don't stand still.
    fn stuck(&self) -> Option<Finding> {
        let (server, _) = self.screen.rule.as_ref()?;
        let says = self.screen.words.split_inclusive(['.', ';']).find(|sentence| holds_commits_up(sentence))?;
        let pair = self.pair(server).filter(|_| self.looked_between(server))?;
        let needed: usize = needed(&pair.before.rule);
        let confirms = |s: &&Sender| {
            ["sync", "quorum"].contains(&s.sync_state.as_str())
                && same(pair, &s.name).is_some_and(|(_, b)| b.replay.is_some_and(|at| at >= pair.before.end))
        };
        let enough = pair.before.senders.iter().filter(confirms).count() >= needed;
        let waits = pair.before.waits.values().chain(pair.after.waits.values()).any(|w| w.age > 500.0);
        let flows = pair.before.rule == pair.after.rule && enough && !waits;
        (flows && !pair.before.recovery)
            .then(|| finding("stuck", format!("`{says}` is said, and commits return on {server}")))
    }

    fn session(&self, session: &SessionSays) -> Option<Finding> {
        let (pair, pid) = (self.pair(&session.node)?, session.pid?);
        let states = [pair.before.backends.get(&pid), pair.after.backends.get(&pid)].map(|s| s.map(String::as_str));
        let text = |truth: &str| format!("session {} is said to be {}; {truth}", session.name, session.word);
        let truth = match states {
            [None, None] => "closed",
            [Some("idle"), Some("idle")] => "idle",
            [Some("idle in transaction"), Some("idle in transaction")] => "in_transaction",
            [Some("idle in transaction (aborted)"), Some("idle in transaction (aborted)")] => "failed",
            _ => return None,
        };
        (session.word != truth && session.word != "running")
            .then(|| finding("session", text(&format!("it is {truth}"))))
    }
}

fn role(node: &NodeSays, pair: Pair) -> Option<Finding> {
    let truth = if pair.before.recovery { "standby" } else { "primary" };
    let said = node.role.as_ref()?;
    (said != truth).then(|| finding("role", format!("{} is said to be a {said}, and is a {truth}", node.name)))
}

fn timeline(node: &NodeSays, pair: Pair) -> Option<Finding> {
    let (said, name) = (node.timeline?, &node.name);
    let truth: Vec<u32> = [&pair.before.timelines[..], &pair.after.timelines[..]].concat();
    (!truth.contains(&said)).then(|| finding("timeline", format!("{name}: timeline {said}, and it has {truth:?}")))
}

fn stream(node: &NodeSays, pair: Pair, upper: Pair) -> Option<Finding> {
    let (name, said) = (&node.name, node.link.as_deref()?);
    let rows = [row(upper.before, name), row(upper.after, name)];
    let text = |truth: String| format!("{name} is said to be {said} from {}; {truth}", node.upstream.as_ref().unwrap());
    match (said, rows) {
        ("streaming" | "catchup", [None, None]) if pair.before.receiver.is_none() && pair.after.receiver.is_none() => {
            Some(finding("stream", text("no sender serves it".to_owned())))
        }
        ("streaming", [Some(a), Some(b)]) if is_silent(a, b) && !node.throttled => {
            Some(finding("stream", text(format!("its last reply is {:.0} ms old", b.reply_age.unwrap_or_default()))))
        }
        ("disconnected" | "forked", [Some(a), Some(b)]) if is_lively(a, b) => {
            Some(finding("stream", text("a sender serves it and gets its replies".to_owned())))
        }
        ("last-known", [Some(a), Some(b)]) if is_lively(a, b) => {
            Some(finding("stream", text("it replied just before and in between".to_owned())))
        }
        _ => None,
    }
}

fn sync_state(node: &NodeSays, upper: Pair) -> Option<Finding> {
    let (a, b) = same(upper, &node.name)?;
    let said = node.sync_state.as_ref()?;
    (a.sync_state == b.sync_state && *said != a.sync_state)
        .then(|| finding("sync_state", format!("{} is said to be {said}, and is {}", node.name, a.sync_state)))
}

/// The log only grows, and so does what is replayed of it: what was said lies between the least and the most that it can have been.
fn behind(node: &NodeSays, pair: Pair, upper: Pair) -> Option<Finding> {
    let said = node.behind?;
    // Without a sender its own word counts; with one, the sender's.
    let replays = match same(upper, &node.name) {
        Some((a, b)) => (a.replay?, b.replay?),
        None if row(upper.before, &node.name).is_none() && row(upper.after, &node.name).is_none() => {
            (pair.before.replayed?, pair.after.replayed?)
        }
        None => return None,
    };
    let (least, most) = (upper.before.end.saturating_sub(replays.1), upper.after.end.saturating_sub(replays.0));
    (!(least..=most).contains(&said))
        .then(|| finding("behind", format!("{} is said to be {said} B behind: {least} to {most}", node.name)))
}

/// A standby that streams and has replayed what its upstream had, when nobody wrote, is a copy. A row whose commit waits for a
/// standby is seen there before it is seen on the primary.
fn rows(node: &NodeSays, pair: Pair, upper: Pair) -> Option<Finding> {
    let waits = [upper.before, upper.after].iter().any(|a| !a.waits.is_empty());
    let still = !waits && upper.before.rows == upper.after.rows && pair.before.rows == pair.after.rows;
    let replayed = pair.before.replayed? >= upper.before.end;
    let differ = still && replayed && pair.after.rows != upper.after.rows;
    (node.link.as_deref() == Some("streaming") && differ).then(|| {
        let (here, there) = (&pair.after.rows, &upper.after.rows);
        finding("rows", format!("{} is said to stream, and is no copy: {here:?} against {there:?}", node.name))
    })
}

/// Whether a sentence says that commits wait now. What begins with a condition speaks of what may come.
fn holds_commits_up(sentence: &str) -> bool {
    let sentence = sentence.trim().to_ascii_lowercase();
    !sentence.starts_with("if ") && ["commits wait", "no commit"].iter().any(|part| sentence.contains(part))
}

fn row<'a>(answer: &'a Answer, name: &str) -> Option<&'a Sender> {
    answer.senders.iter().find(|s| s.name.eq_ignore_ascii_case(name))
}

/// The rows of a standby's sender before and after, where it is one and the same.
fn same<'a>(pair: Pair<'a>, name: &str) -> Option<(&'a Sender, &'a Sender)> {
    row(pair.before, name).zip(row(pair.after, name)).filter(|(a, b)| a.pid == b.pid)
}

/// It owes a reply, and none came for long.
fn is_silent(before: &Sender, after: &Sender) -> bool {
    let none_came = before.pid == after.pid && before.reply.is_some() && before.reply == after.reply;
    none_came && before.sent > before.write && before.reply_age.is_some_and(|age| age > SILENT_MS)
}

/// It replied right before each of the two answers, to the same sender.
fn is_lively(before: &Sender, after: &Sender) -> bool {
    let young = |s: &Sender| s.state == "streaming" && s.reply_age.is_some_and(|age| age < LIVELY_MS);
    before.pid == after.pid && young(before) && young(after) && before.reply < after.reply
}

fn slots(node: &NodeSays, pair: Pair) -> Vec<Option<Finding>> {
    let one = |truth: &super::servers::Slot| {
        let steady = pair.after.slots.contains(truth);
        let said = node.slots.iter().find(|s| s.name == truth.name);
        let agrees = said.is_some_and(|s| s.status == truth.status && s.active == truth.active);
        (steady && !agrees).then(|| {
            finding("slot", format!("slot {} on {} is said to be {said:?}, and is {truth:?}", truth.name, node.name))
        })
    };
    pair.before.slots.iter().map(one).collect()
}

/// Whether a rule has that name in its list: words apart, without case.
fn lists(rule: &str, name: &str) -> bool {
    rule.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).any(|word| word.eq_ignore_ascii_case(name))
}

/// How many answers a rule asks for: the number before its list, 1 for a bare list, none without a rule.
fn needed(rule: &str) -> usize {
    match rule.split_once('(') {
        None => usize::from(!rule.trim().is_empty()),
        Some((head, _)) => head.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(1),
    }
}
