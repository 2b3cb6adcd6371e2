//! The program: hands the command line to `cli` and ends with its exit code. Must never: do anything else.

use runbookd::cli::{self, CheckOptions, Environment, ExecuteOptions, Program, ServeOptions};
use runbookd::model::{Clock, Timestamp};
use std::process::ExitCode;
use std::sync::Arc;

struct System;
impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else asks")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now().as_millisecond();
        Timestamp::from_millisecond(now).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Until the composition root is linked in here, the verbs that need it are refused.
struct ClientOnly;
impl Program for ClientOnly {
    fn serve(&self, _: ServeOptions) -> i32 {
        eprintln!("runbookd: this build is a client only");
        1
    }
    fn check(&self, _: CheckOptions) -> i32 {
        eprintln!("runbookd: this build is a client only");
        1
    }
    fn execute(&self, _: ExecuteOptions) -> i32 {
        eprintln!("runbookd: this build is a client only");
        1
    }
}

fn main() -> ExitCode {
    let environment = Environment::of_process(Arc::new(System));
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let code = cli::run(std::env::args_os(), &environment, &ClientOnly, &mut out, &mut err);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
