//! What the daemon tells about itself while it works: metrics for Prometheus.
//!
//! [`Metrics`] has one typed method for each thing that happens, so that no other room knows a metric's name
//! or invents a label. May import: `model`. Must never: block
//! or fail its caller, or make a label of a value that a stranger chose.

mod metrics;

pub use metrics::{AuthFailure, Build, Gauges, Metrics, StepKind};
