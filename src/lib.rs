//! runbookd: alerts become durable, guarded runbook executions.
//!
//! A webhook body is decoded and split by alert (`intake`), each alert is matched to a runbook
//! (`routing`) and asked through every gate (`admit`); one store commit holds the decisions and the
//! new executions of the whole request, and only then is it answered. The `engine` drives each
//! execution by its `journal`, a pure state machine says what comes next, `step` does it, and
//! `report` shows it.

pub mod model;

pub mod document;

pub mod config;

pub mod runbook;

pub mod catalogue;

pub mod intake;

pub mod routing;

pub mod admit;

pub mod engine;

pub mod journal;

pub mod step;

pub mod store;

pub mod telemetry;

pub mod auth;

pub mod api;

pub mod http;

pub mod app;

pub mod cli;
