//! What would be decided, with nothing left of it: the very function that decides, on the very records, in a unit of
//! work that is refused at its end.
//!
//! May import: what intake may. Must never: keep, count or start anything.

use super::accept::{Intake, IntakeError, Options};
use super::decode::{self, Element};
use super::ruling::rule;
use crate::model::{Alert, AlertStatus, Decision, Fingerprint, Labels, Timestamp, Verdict};
use crate::routing::Library;
use crate::store::CommitError;
use crate::store::records::transact;
use std::sync::{Arc, Mutex, PoisonError};

/// What decisions would rest on if it were in force.
#[derive(Debug)]
pub struct Candidate {
    /// With the mappings of the config only.
    pub options: Options,
    /// The runbooks.
    pub library: Arc<Library>,
}

impl Intake {
    /// What would be decided on the elements of `body`, one after the other, at `at`; now, where absent. By `candidate`,
    /// where there is one, together with the mappings that people set; else by what is in force.
    ///
    /// # Errors
    /// [`IntakeError`], as for the body itself.
    pub async fn simulate(
        &self,
        body: &[u8],
        at: Option<Timestamp>,
        candidate: Option<Candidate>,
    ) -> Result<Vec<Decision>, IntakeError> {
        let now = at.unwrap_or_else(|| self.clock.now());
        let (options, library) = match candidate {
            Some(Candidate { options, library }) => (self.in_force().instead(options), library),
            None => self.current(),
        };
        self.try_out(decode::decode(body, now)?.alerts, now, options, library).await
    }

    fn current(&self) -> (Arc<Options>, Arc<Library>) {
        let library = self.library.read().unwrap_or_else(PoisonError::into_inner);
        (self.options(), Arc::clone(&library))
    }

    /// What would be decided on an alert with these labels that fires now. One that is known goes on firing.
    ///
    /// # Errors
    /// [`IntakeError`] when the store cannot be read.
    pub async fn explain(
        &self,
        labels: Labels,
        annotations: Labels,
    ) -> Result<Option<Decision>, IntakeError> {
        let now = self.clock.now();
        let alert = Alert {
            status: AlertStatus::Firing,
            fingerprint: Fingerprint::of(&labels),
            labels,
            annotations,
            starts_at: now,
            ends_at: None,
            generator_url: String::new(),
            external_url: String::new(),
        };
        let (options, library) = self.current();
        Ok(self.try_out(vec![Element::Alert(Box::new(alert))], now, options, library).await?.pop())
    }

    async fn try_out(
        &self,
        alerts: Vec<Element>,
        now: Timestamp,
        options: Arc<Options>,
        library: Arc<Library>,
    ) -> Result<Vec<Decision>, IntakeError> {
        let (switch, ids) = (self.board.read(), Arc::clone(&self.ids));
        let told = Arc::new(Mutex::new(Vec::new()));
        let out = Arc::clone(&told);
        let tried: Result<(), CommitError> = transact(&*self.store, move |txn| {
            let ground = options.ground(&library, &switch, &ids, now);
            let ruled = alerts.iter().map(|element| Ok(rule(txn, &ground, element)?.1));
            let decisions: Vec<Decision> = ruled.collect::<Result<_, CommitError>>()?;
            *out.lock().unwrap_or_else(PoisonError::into_inner) = decisions;
            Err(CommitError::Refused("nothing is to be left of it".to_owned()))
        })
        .await;
        match tried {
            Ok(()) | Err(CommitError::Refused(_)) => {
                let mut decisions = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
                // None of those that would be made is ever there to be asked for.
                let made: Vec<_> = decisions
                    .iter()
                    .filter(|decision| decision.verdict != Verdict::Skip)
                    .filter_map(|decision| decision.execution_id.clone())
                    .collect();
                for decision in &mut decisions {
                    decision.execution_id = decision.execution_id.take().filter(|id| !made.contains(id));
                }
                Ok(decisions)
            }
            Err(cause) => Err(IntakeError::Store(cause)),
        }
    }
}
