//! What Prometheus and Alertmanager say of an alert now, for people who ask why nothing happened.
//!
//! May import: `admit` (what is asked before the first step, and what the answers mean). Must never: start anything, or
//! take no answer for yes.

use super::Engine;
use super::drive::first;
use crate::admit::late::{Answers, Confirmation, Questions};
use crate::model::{GateReport, Labels, quoted};
use serde::Serialize;

/// How many rules that only nearly hold are told.
const NEAR_MAX: usize = 3;
/// How many labels of each.
const DIFFERENCES_MAX: usize = 5;

/// What both say; an error is a sentence.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Of Alertmanager.
    pub alertmanager: Result<Confirmation, String>,
    /// Of the rules that Prometheus evaluates.
    pub prometheus: Result<Rules, String>,
    /// The gates that ask others, answered; `None` where they had nothing to ask.
    pub gates: Option<Vec<GateReport>>,
}

/// What the alerting rules of Prometheus say of a label set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// `pending` or `firing`; none where no rule holds.
    pub states: Vec<String>,
    /// Labels that were given and that no rule has: external labels, or what relabelling adds on the way.
    pub beyond: Vec<String>,
    /// Where none holds: those of the same name that differ the least.
    pub near: Vec<Near>,
}

/// A rule that holds for other labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Near {
    /// `pending` or `firing`.
    pub state: String,
    /// Where it differs.
    pub differs: Vec<Difference>,
}

/// A label of a rule that is not as given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// Its name.
    pub label: String,
    /// What the rule has.
    pub rule: String,
    /// What was given, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
}

impl Engine {
    /// Asks both, and what the execution of such an alert would ask before its first step.
    pub async fn upstream(&self, labels: &Labels, questions: Option<&Questions>) -> Upstream {
        let world = &self.shared.world;
        // By name alone: what a rule holds for has none of the labels that are added on the way to Alertmanager.
        let name = labels.get("alertname").map_or("", String::as_str);
        let query = format!("ALERTS{{alertname={}}}", quoted(name));
        let others = async {
            // Alertmanager is asked anyway.
            let questions = Questions { confirm: None, ..questions?.clone() };
            Some(first::answer(&self.shared, &questions).await)
        };
        let (alertmanager, answer, answers) =
            tokio::join!(world.confirm(labels.clone()), world.query(query), others);
        let gates = questions.zip(answers).map(|(questions, answers)| {
            questions.judge(&Answers { confirm: Some(alertmanager.clone()), ..answers })
        });
        let prometheus =
            answer.map(|answer| rules(labels, answer.samples.into_iter().map(|sample| sample.labels)));
        Upstream { alertmanager, prometheus, gates }
    }
}

/// What `series` of `ALERTS` say of the alert `given`.
fn rules(given: &Labels, series: impl Iterator<Item = Labels>) -> Rules {
    let mut holding: Vec<(String, Labels)> = Vec::new();
    let mut near: Vec<Near> = Vec::new();
    for mut labels in series {
        labels.remove("__name__");
        let Some(state) = labels.remove("alertstate") else { continue };
        let differs: Vec<Difference> = labels
            .iter()
            .filter(|(name, value)| given.get(*name) != Some(value))
            .map(|(name, value)| Difference {
                label: name.clone(),
                rule: value.clone(),
                given: given.get(name).cloned(),
            })
            .collect();
        if differs.is_empty() {
            holding.push((state, labels));
        } else {
            near.push(Near { state, differs });
        }
    }
    // A rule with fewer labels holds for other alerts too: the one that says the most is this alert's.
    let most = holding.iter().map(|(_, labels)| labels.len()).max();
    holding.retain(|(_, labels)| Some(labels.len()) == most);
    if let Some((_, labels)) = holding.first() {
        let beyond = given.keys().filter(|name| !labels.contains_key(*name)).cloned().collect();
        let mut states: Vec<String> = holding.into_iter().map(|(state, _)| state).collect();
        states.sort();
        states.dedup();
        return Rules { states, beyond, near: Vec::new() };
    }
    near.sort_by(|a, b| (a.differs.len(), &a.differs).cmp(&(b.differs.len(), &b.differs)));
    near.truncate(NEAR_MAX);
    near.iter_mut().for_each(|near| near.differs.truncate(DIFFERENCES_MAX));
    Rules { near, ..Rules::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn series(state: &str, more: &[(&str, &str)]) -> Labels {
        let own = [("__name__", "ALERTS"), ("alertname", "Down"), ("alertstate", state)];
        labels(&[&own, more].concat())
    }

    #[test]
    fn a_rule_holds_for_an_alert_to_which_labels_were_added_on_the_way() {
        let given = labels(&[("alertname", "Down"), ("instance", "a"), ("cluster", "eu")]);
        let told = rules(
            &given,
            [
                series("pending", &[("instance", "b")]),
                series("firing", &[("instance", "a")]),
                series("pending", &[]),
            ]
            .into_iter(),
        );
        assert_eq!(told.states, ["firing"], "the one with the most labels");
        assert_eq!(told.beyond, ["cluster"]);
        assert!(told.near.is_empty());
    }

    #[test]
    fn where_none_holds_the_nearest_say_what_differs() {
        let given = labels(&[("alertname", "Down"), ("instance", "a")]);
        let all = [
            series("firing", &[("instance", "b"), ("job", "db")]),
            series("pending", &[("instance", "b")]),
            series("firing", &[("instance", "a"), ("job", "db")]),
        ];
        let told = rules(&given, all.into_iter());
        assert!(told.states.is_empty() && told.beyond.is_empty());
        let differs = |at: usize| -> Vec<_> {
            let differs = told.near[at].differs.iter();
            differs.map(|it| (it.label.as_str(), it.rule.as_str(), it.given.as_deref())).collect()
        };
        assert_eq!(differs(0), [("instance", "b", Some("a"))]);
        assert_eq!(differs(1), [("job", "db", None)]);
        assert_eq!(differs(2), [("instance", "b", Some("a")), ("job", "db", None)]);
        assert_eq!(told.near[0].state, "pending");
        assert_eq!(rules(&given, [].into_iter()), Rules::default());
    }
}
