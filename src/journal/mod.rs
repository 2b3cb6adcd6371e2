//! What happened: an execution *is* this append-only list of events, and its state is a fold over them.
//!
//! May import: `model`. Must never: decide what comes next (that is `engine::transition`), do I/O or ask
//! for the time. Every event carries its time; replaying a journal gives the same state on every machine.

mod audit;
mod event;
mod state;

pub use audit::{AuditEntry, AuditHead, AuditRecord, Broken, GENESIS, Verifier, verify};
pub use event::{
    AttemptResult, Created, DecodeError, Entry, Event, Output, Skip, StepHead, Trigger, TriggerKind, decode,
    encode,
};
pub use state::{Attempt, IllegalEvent, Open, State, StepState, StopRequest, VerifyState};
