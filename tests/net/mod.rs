//! A net for untrue statements: what the screen says, taken as values at random moments of chaos, against what each server answers to
//! plain `psql` right before and right after. What both answers contradict is a finding, told with the seed.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod judge;
pub mod planted;
pub mod play;
pub mod screen;
pub mod servers;
