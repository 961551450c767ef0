//! How long a promise holds. A synchronous rule promises that an acknowledged write survives the loss of the primary, by an election
//! with enough answers of the standbys which that rule lists. Where the rule gives way to another (by order, or because it moved
//! to a new primary without that one's name) the next election asks those that the new rule lists, and they need not have what
//! the old one promised. From a change on, earlier promises have no footing until it is seen that they have one again. Knows no
//! ids: the books are `ledger`'s.

use serde::{Deserialize, Serialize};

use super::Lsn;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// The rule in force covers all that was promised.
    #[default]
    Firm,
    /// The rule is another since the last look at the primary.
    Changed,
    /// Firm again once every standby has flushed the log up to here, which was its end at the first look after the change.
    Until(Lsn),
}

/// What earlier promises stand on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footing {
    rule: String,
    state: State,
}

impl Footing {
    /// A look at the primary: its rule, the end of its log, whether writes were promised under this same rule since the last look
    /// (who confirmed those has all before them), and whether every standby has flushed up to a place.
    pub fn seen(&mut self, rule: &str, end: Lsn, promised: bool, all_have: impl FnOnce(Lsn) -> bool) {
        if self.rule != rule {
            rule.clone_into(&mut self.rule);
            self.state = State::Changed;
        }
        self.state = match self.state {
            _ if promised => State::Firm,
            State::Changed => State::Until(end),
            State::Until(at) if all_have(at) => State::Firm,
            state => state,
        };
    }

    /// Another node is the primary; whether that election covered all that had been promised.
    pub fn moved(&mut self) -> bool {
        std::mem::replace(&mut self.state, State::Changed) == State::Firm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_firm_again_when_a_promise_or_every_standby_says_so() {
        let mut footing = Footing::default();
        footing.seen("ANY 1 (s1, s2)", Lsn(10), true, |_| false);
        assert!(footing.moved(), "the first election is covered");
        assert!(!footing.moved(), "one right after it isn't");
        footing.seen("ANY 1 (s2)", Lsn(20), false, |_| true);
        assert!(!footing.moved(), "the place to reach is known only now");
        footing.seen("ANY 1 (s2)", Lsn(30), false, |_| false);
        footing.seen("ANY 1 (s2)", Lsn(40), false, |at| at == Lsn(30));
        assert!(footing.moved(), "every standby had all there was");
        footing.seen("", Lsn(50), false, |_| true);
        footing.seen("FIRST 1 (s1)", Lsn(60), true, |_| false);
        assert!(footing.moved(), "a promise under the rule now in force takes the earlier ones along");
    }
}
