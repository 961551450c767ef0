//! Which versions of PostgreSQL a lab works with, wherever its servers come from.

use std::ops::RangeInclusive;

/// The versions that the lab's SQL and settings are made for. Tested are 17 and 18 in containers and, as processes, what the
/// machine has (15 on Debian 12); nothing runs 16.
const MADE_FOR: RangeInclusive<u32> = 15..=18;

/// Whether the lab works with this version; a text when it may. An error says why not.
pub fn judge(major: u32) -> Result<Option<String>, String> {
    let (oldest, newest) = (MADE_FOR.start(), MADE_FOR.end());
    if major < *oldest {
        Err(format!("PostgreSQL {major} is too old: replab needs {oldest} or newer"))
    } else if major > *newest {
        Ok(Some(format!("PostgreSQL {major} is newer than what replab is made for ({oldest} to {newest})")))
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_judged() {
        assert!(judge(14).is_err());
        assert_eq!(judge(15), Ok(None));
        assert_eq!(judge(18), Ok(None));
        assert!(judge(19).expect("may work").is_some());
    }
}
