//! Twelve faults by four ways of acknowledging, on a real lab: what a client saw, what was lost, what the lab said, and how long
//! until it was on screen and until it was mended. docs/faults.md is written from it.

#![allow(dead_code, reason = "each test program uses another part")]

pub mod cell;
pub mod faults;
pub mod page;
