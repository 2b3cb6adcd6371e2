//! Step 1 of an alert's way: bytes become alerts, alerts find their episodes, all of it is decided in one
//! commit, and only then is the sender answered. A due time of a schedule goes the same way, without a sender.
//!
//! May import: `model`, `journal`, `runbook`, `routing`, `admit`, `plan`, `guard`, `report`, `schedule`, `store`, `telemetry`. Must never: run
//! anything, call the engine (it is woken, without data, and reads the store), or use the network.

mod accept;
mod announcement;
mod decode;
pub mod foresight;
mod held;
mod mappings;
mod occasion;
mod ruling;
mod standing;
mod timetable;
mod trial;

#[cfg(test)]
mod tests;

pub use accept::{Accepted, Intake, IntakeError, Options};
pub use announcement::Announcement;
pub use decode::{Body, Element, MalformedBody, decode};
pub use mappings::{MappingError, NewMapping, SetMapping};
pub use timetable::Scheduled;
pub use trial::{Candidate, Explained, Heard, replayed};
