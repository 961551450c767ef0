//! Which versions of PostgreSQL a lab works with, wherever its servers come from.

use std::ops::RangeInclusive;

/// The versions the lab is tested with.
const TESTED: RangeInclusive<u32> = 15..=18;

/// Whether the lab works with this version; a text when it may. An error says why not.
pub fn judge(major: u32) -> Result<Option<String>, String> {
    let (oldest, newest) = (TESTED.start(), TESTED.end());
    if major < *oldest {
        Err(format!("PostgreSQL {major} is too old: replab needs {oldest} or newer"))
    } else if major > *newest {
        Ok(Some(format!("PostgreSQL {major} is newer than what replab was tested with ({oldest} to {newest})")))
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
