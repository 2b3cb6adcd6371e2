//! runbookd: alerts become durable, guarded runbook executions.
//!
//! ```text
//! Alertmanager --POST--> http -> intake -> routing + admit -> engine -> step -> the world
//!                         |        |            |               |        |
//!                      limits,  decode,   which runbook,    journal,  processes,
//!                      auth     episodes  every gate        machine   requests, PromQL
//!                         <--- 200 only after the store has committed ---'
//!                              store: journal, episodes, decisions
//!                              api, telemetry, cli: what people and programs see of it
//! ```
//!
//! A webhook body is decoded tolerantly and split by alert ([`intake`]); each alert is matched to a runbook
//! ([`routing`]) and asked through every gate ([`admit`]), both pure. One store commit holds the decisions and the
//! new executions of the whole request, and only then is it answered. An execution *is* its [`journal`]; a pure
//! machine (`engine::transition`) says what comes next, the [`engine`] commits that and then does it, and
//! [`step`] is where the world is touched.
//!
//! What must stay true, whatever is changed here:
//!
//! - **Intent before effect.** A step that can change something has its intent durable before it starts, and its
//!   outcome durable before anything that follows from it. The outcome of one step and the intent of the next
//!   share one commit.
//! - **Crash rules.** An attempt that was in progress when the daemon ended: `read_only`, `idempotent` and `keyed`
//!   run again with the same number and key; `at_most_once` becomes `unknown` and is never run again.
//! - **Final is final.** No event leads out of a final status.
//! - **Timers are absolute times in the journal.** A parked execution holds no task: one entry in the engine's
//!   registry, and its bytes in the store.
//! - **The version is pinned** when an execution is made; a reload never changes one that is live.
//! - **One decision for every change of an alert's state**, with the answer of every gate, also for what was not run.
//! - **One execution at a time holds a target** from its first step to its end, if it can change something.
//! - Intake and engine meet only in the store. Wake-ups carry no data, so a lost one costs time, never correctness.
//!
//! The modules below stand in reading order; `tests/it/tidy.rs` holds the plan of who may import whom. A tour in
//! ten minutes: `intake/ruling.rs`, `admit/mod.rs`, `engine/transition.rs`, `engine/drive.rs`,
//! `step/process/mod.rs`, `tests/it/crash/mod.rs`.

// The words, and how what people write is read.
pub mod model;

pub mod document;

pub mod secret;

pub mod config;

pub mod runbook;

pub mod catalogue;

// The way of an alert.
pub mod intake;

pub mod routing;

pub mod schedule;

pub mod guard;

pub mod admit;

pub mod plan;

pub mod engine;

pub mod journal;

pub mod step;

pub mod report;

pub mod notifier;

// What tests runbooks without the world.
pub mod rehearsal;

// What it stands on.
pub mod store;

pub mod backup;

pub mod telemetry;

pub mod auth;

pub mod identity;

// What other programs did, in its words.
pub mod import;

// How people and programs meet it.
pub mod api;

pub mod http;

pub mod app;

pub mod cli;
