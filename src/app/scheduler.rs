//! Keeps the time for the schedules: one task, one timer, which sleeps until the next due time.
//!
//! May import: `http` (the services). Must never: decide whether anything is due; `intake` does.

use crate::http::handler::Services;
use crate::model::between;
use std::sync::Arc;
use std::time::Duration;

/// The longest sleep: a clock that somebody set is noticed after it.
const LONGEST: Duration = Duration::from_secs(60);

/// Sees to the schedules until the process ends.
pub(super) async fn keep(services: Arc<Services>) {
    loop {
        let intake = &services.intake;
        let next = intake.keep_schedules().await;
        let sleep = async {
            match next {
                Some(at) => tokio::time::sleep(between(services.clock.now(), at).min(LONGEST)).await,
                // Without schedules nothing wakes it.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = intake.rescheduled() => {}
        }
    }
}
