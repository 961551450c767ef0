//! Recordings that come with the program, so that it shows something where nothing is installed. `assets/recordings/record.sh` makes
//! them.

use crate::scenario::is_called;

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        /// The shipped recordings: the lesson's name, and the file.
        pub const SHIPPED: &[(&str, &[u8])] =
            &[$(($name, include_bytes!(concat!("../../assets/recordings/", $name, ".replab")))),*];
    };
}

shipped!["01-first-steps", "07-async-failover-loses", "23-split-brain"];

/// The shipped recording of that name: a lesson's number, its whole name or its words.
pub fn named(name: &str) -> Option<(&'static str, &'static [u8])> {
    SHIPPED.iter().copied().find(|(lesson, _)| is_called(lesson, name))
}
