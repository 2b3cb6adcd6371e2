//! What the daemon tells about itself while it works: metrics for Prometheus, log lines for people and collectors.
//!
//! [`Metrics`] has one typed method for each thing that happens, so that no other room knows a metric's name
//! or invents a label; [`logging`] turns `tracing` events into lines. May import: `model`. Must never: block
//! or fail its caller, or make a label of a value that a stranger chose.

pub mod logging;
mod metrics;

pub use metrics::{AuthFailure, Build, Escalated, Gauges, Metrics, StepKind};
