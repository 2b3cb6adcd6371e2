//! The one integration binary: a module per subject, nothing else here.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod access;
mod alerting;
mod audited;
mod backup;
mod children;
mod cli;
mod control;
mod crash;
mod demo;
mod deploy;
mod described;
mod docs;
mod e2e;
mod edge;
mod escalate;
mod explain;
mod first;
mod fuzz;
mod guard;
mod guards;
mod identity;
mod injection;
mod intake;
mod kinds;
mod lifecycle;
mod manual;
mod mappings;
mod peers;
mod powercut;
mod runbooks;
mod schedules;
mod secrets;
mod shipped;
mod stop;
mod support;
mod switch;
mod tidy;
mod webhook;
