//! The program: hands the command line to `cli` and ends with its exit code. Must never: do anything else.

use runbookd::app::SystemClock;
use runbookd::cli::{self, Daemon, Environment};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let environment = Environment::of_process(Arc::new(SystemClock));
    let program = Daemon { variables: environment.variables.clone() };
    // Not locked: a lock held while the daemon serves would stop its log.
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let code = cli::run(std::env::args_os(), &environment, &program, &mut out, &mut err);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
