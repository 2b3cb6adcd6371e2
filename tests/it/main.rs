//! The one integration binary: a module per subject, nothing else here.

mod powercut;
mod support;
