//! Which versions of PostgreSQL a lab works with, wherever its servers come from.

use std::ops::RangeInclusive;

/// The versions that the lab's SQL and settings are made for. Tested are 17, 18 and 19 (a release candidate) in containers and, as
/// processes, what the machine has (15 on Debian 12); nothing runs 16.
pub const MADE_FOR: RangeInclusive<u32> = 15..=19;

/// Which versions are wanted; by default any will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Just this major version.
    pub exact: Option<u32>,
    /// This one or a newer one.
    pub least: Option<u32>,
}

impl From<Option<u32>> for Wanted {
    fn from(exact: Option<u32>) -> Self {
        Self { exact, least: None }
    }
}

impl Wanted {
    /// Whether this version will do.
    pub fn fits(self, major: u32) -> bool {
        self.exact.is_none_or(|exact| major == exact) && self.least.is_none_or(|least| major >= least)
    }
}

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

/// The major version in a version as PostgreSQL tells it: 18 of "18.6", 19 of "19rc1" and "19devel".
pub fn major_of(version: &str) -> Option<u32> {
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_a_version_or_the_least_of_them() {
        assert!(Wanted::default().fits(15) && Wanted::from(Some(17)).fits(17) && !Wanted::from(Some(17)).fits(18));
        let least = Wanted { least: Some(18), ..Wanted::default() };
        assert!(!least.fits(17) && least.fits(18) && least.fits(19));
    }

    #[test]
    fn the_major_version_is_read_of_every_release() {
        for (version, major) in [("15.18", 15), ("18", 18), ("19rc1", 19), ("19beta2", 19), ("20devel", 20)] {
            assert_eq!(major_of(version), Some(major), "{version}");
        }
        assert_eq!(major_of("devel"), None);
    }

    #[test]
    fn versions_are_judged() {
        assert!(judge(14).is_err());
        assert_eq!(judge(15), Ok(None));
        assert_eq!(judge(19), Ok(None));
        assert!(judge(20).expect("may work").is_some());
    }
}
