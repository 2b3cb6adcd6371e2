//! What a person may do to an execution, one file a verb: each an exhaustive match on its status.

pub mod stop;
