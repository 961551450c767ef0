//! `replab`: a replication lab in a terminal. See `docs/architecture.md` for the map.
//!
//! # Layout (imports only run downward; `tests/tidy.rs` holds that)
//!
//! - F4 `main`, [`cli`], [`app`]: parse, wire the tasks together, one select loop for the screen and for plain lines
//! - F3 [`observe`], [`workload`], [`drive`]: samplers, writers, effects carried out
//! - F2 [`runtime`], [`relay`], [`pg`]: containers or processes; TCP links with faults; SQL, config files, wire protocol
//! - F1 [`ui`], [`keys`], [`scenario`], [`report`], [`chaos`]: pure; a model in, a picture, a text or commands out
//! - F0 [`model`]: what the lab knows, and the one place where that changes

pub mod app;
pub mod chaos;
pub mod cli;
pub mod drive;
pub mod keys;
pub mod model;
pub mod observe;
pub mod pg;
pub mod recording;
pub mod relay;
pub mod report;
pub mod runtime;
pub mod scenario;
pub mod ui;
pub mod workload;
