//! The program: hands over to `replab::app`.

use std::process::ExitCode;

fn main() -> ExitCode {
    replab::app::main()
}
