//! What happened: an execution *is* this append-only list of events, and its state is a fold over them.
//!
//! May import: `model`. Must never: decide what comes next (that is `engine::transition`), do I/O or ask
//! for the time. Every event carries its time; replaying a journal gives the same state on every machine.

mod audit;
mod event;
mod fold;
mod record;
mod state;
mod word;

pub use audit::{AuditEntry, AuditHead, AuditRecord, Broken, CUT, GENESIS, Verifier, verify};
pub use event::{Change, DecodeError, Entry, Event, Skip, decode, encode};
pub use fold::IllegalEvent;
pub use record::{AttemptResult, Created, Inherited, Output, Parent, StepHead, Trigger, TriggerKind};
pub use state::{
    ApprovalState, Attempt, Decided, Open, Pause, Planned, Saying, State, StepState, StopRequest, VerifyState,
};
pub use word::audited;
