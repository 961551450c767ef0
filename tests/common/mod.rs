//! What several test programs share.

pub mod empty_engine;
pub mod engines;
pub mod firewall;
pub mod house;
pub mod images;
pub mod pgserver;
pub mod stage;
pub mod terminal;
pub mod way;
