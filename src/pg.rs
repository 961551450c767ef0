//! PostgreSQL as the lab uses it: configuration files, SQL, control connections, the writers' wire protocol and what its
//! answers mean. All SQL text is in here. Knows no containers, no screen and no cluster logic.

pub mod classify;
pub mod conf;
pub mod console;
pub mod control;
pub mod probe;
mod quote;
pub mod secret;
pub mod sql;
pub mod wire;

pub use classify::{Classifier, Outcome};
pub use console::{Answer, Console, Limits, Rights, Said, Transaction};
pub use control::{Control, ControlError, ServerError};
pub use secret::{Passwords, Secret, TemplateKey};
pub use wire::{Insert, Login, Wire, WireError};
