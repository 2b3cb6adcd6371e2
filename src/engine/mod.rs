//! x
pub mod transition;
mod view;
