//! Step 6: telling people what automation did not settle. Who is told, when, by which channel, in which words.
//!
//! Pure. What [`words`] says of an execution's events is committed together with them; a [`Directory`] makes a plan of
//! it, [`due`] says what is to be sent at a time, [`letter`] what is said. May import: `model`, `journal`, `runbook`.
//! Must never: send, store or wait for anything, or put a text of an alert anywhere but into plain text.

mod entry;
mod ladder;
mod quiet;
mod rules;
mod text;

pub use entry::{
    Cause, Closed, Delivery, DeliveryState, Denial, Escalation, EscalationId, MAX_TARGETS, Standing, Totals,
    Urgency, WINDOW,
};
pub use ladder::{Act, Directory, Due, Failure, GIVE_UP, Level, Told, close, due, key, plan, told, turn};
pub use quiet::Quiet;
pub use rules::{DENIALS, Which, Word, calls_for_people, speaks, unreadable, words};
pub use text::{Letter, Link, alert_url, cut, letter, note, one_line, web_link};

#[cfg(test)]
mod tests;
