//! What a runbook needs of the config, and what the config lacks of it.
//!
//! Pure. May import: `config`, `model`, `runbook`. Must never: refuse a runbook; it says what will fail.

use crate::config::{Config, People};
use crate::model::{MAX_MESSAGES, Secret};
use crate::runbook::{Condition, Kind, Question, Runbook, Script, UntilCondition};
use std::collections::BTreeMap;

/// What the config gives.
pub(super) struct Given<'c> {
    prometheus: bool,
    alertmanager: bool,
    secrets: &'c BTreeMap<String, Secret>,
    /// Whether people may have stored further ones.
    stores: bool,
    people: &'c People,
}

impl<'c> Given<'c> {
    /// By `config`.
    pub(super) fn of(config: &'c Config) -> Self {
        Self {
            prometheus: config.prometheus.is_some(),
            alertmanager: config.alertmanager.is_some(),
            secrets: &config.secrets,
            stores: config.vault.has_key(),
            people: &config.people,
        }
    }

    /// Everything `runbook` needs and this is not: what, where, and the fix, one sentence each.
    pub(super) fn lacks(&self, runbook: &Runbook) -> Vec<String> {
        let mut lacking = Vec::new();
        for step in &runbook.steps {
            let undo = step.undo.as_ref().map(|undo| ("undo", &undo.kind));
            let probe = step.probe.as_ref().map(|probe| ("probe", probe));
            for (part, kind) in [Some(("", &step.kind)), probe, undo].into_iter().flatten() {
                let place = if part.is_empty() { String::new() } else { format!("the {part} of ") };
                let lack = self.lack(kind).map(|lack| format!("{place}the step `{}` {lack}", step.id));
                lacking.extend(lack);
            }
        }
        for name in runbook.escalate_to.iter().flatten() {
            lacking.extend(self.lacks_name(name).map(|lack| format!("[escalate] {lack}")));
        }
        let names = runbook.escalate_to.as_deref().unwrap_or_default();
        let messages = self.people.messages(names.iter());
        if messages > MAX_MESSAGES {
            lacking.push(format!(
                "[escalate] would be {messages} messages, and {MAX_MESSAGES} is the most (help: name fewer)"
            ));
        }
        let asks = |condition: &Condition| matches!(condition, Condition::Promql { .. });
        if !self.prometheus && runbook.verify.as_ref().is_some_and(|verify| asks(&verify.condition)) {
            lacking.push(format!("verify {PROMETHEUS}"));
        }
        lacking
    }

    fn lacks_name(&self, name: &str) -> Option<String> {
        (!self.people.knows(name)).then(|| {
            let help = self.people.instead_of(name);
            format!(
                "tells {name:?}, and the config has no notifier and no policy of this name (help: {help})"
            )
        })
    }

    fn lacks_secret(&self, name: &str) -> Option<String> {
        let lacks = !self.stores && !self.secrets.contains_key(name);
        lacks.then(|| {
            format!("needs the secret {name:?}, which the config does not have (help: add a section [secrets.{name}])")
        })
    }

    fn lack(&self, kind: &Kind) -> Option<String> {
        let asks_prometheus = match kind {
            Kind::Promql { .. } => true,
            Kind::Until(until) => matches!(until.condition, UntilCondition::Promql { .. }),
            _ => false,
        };
        match kind {
            _ if asks_prometheus => (!self.prometheus).then(|| PROMETHEUS.to_owned()),
            Kind::Silence(_) | Kind::ExpireSilence => (!self.alertmanager).then(|| ALERTMANAGER.to_owned()),
            Kind::Ssh(ssh) => self.lacks_secret(&ssh.key),
            Kind::Http(http) => http.bearer.as_ref().and_then(|name| self.lacks_secret(name)),
            Kind::Command(command)
            | Kind::Script(Script { settings: command, .. })
            | Kind::Check { question: Question::Command(command), .. } => {
                command.secrets.values().find_map(|name| self.lacks_secret(name))
            }
            Kind::Notify(notify) => notify.to.iter().find_map(|name| self.lacks_name(name)),
            _ => None,
        }
    }
}

const PROMETHEUS: &str = "asks Prometheus, and the config names none (help: set [prometheus] url)";
const ALERTMANAGER: &str = "needs Alertmanager, and the config names none (help: set [alertmanager] urls)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Expect, RunbookId};
    use crate::runbook::{Silence, Ssh, Template, Undo};
    use std::time::Duration;

    fn ssh() -> Kind {
        let word = |text: &str| Template::parse(text).unwrap();
        Kind::Ssh(Ssh {
            host: word("db"),
            port: None,
            user: word("ops"),
            program: "true".into(),
            args: vec![],
            key: "ops_key".into(),
            known_hosts: "/etc/ssh/ssh_known_hosts".into(),
            ok_exit: vec![0],
            max_output: 1024,
        })
    }

    /// A runbook with a silence that is undone, a query, a program elsewhere, and a verify.
    fn needy() -> Runbook {
        let step = |id: &str| format!("[[steps]]\nid = \"{id}\"\ncommand = {{ program = \"true\" }}\n");
        let text = format!(
            "mode = \"auto\"\ntarget = \"t\"\n{}{}{}[verify]\npromql = \"up\"\nexpect = \"== 1\"\n",
            step("hush"),
            step("ask"),
            step("go")
        );
        let parsed = crate::runbook::parse(&RunbookId::new("r").unwrap(), "r.toml", &text);
        let mut runbook = parsed.runbook.unwrap_or_else(|| panic!("{:?}", parsed.problems));
        let word = |text: &str| Template::parse(text).unwrap();
        let (expect, hour) = (Expect::parse("> 0").unwrap(), Duration::from_secs(3600));
        let effect = runbook.steps[0].effect;
        let (timeout, retry) = (hour, crate::runbook::Retry::default());
        runbook.steps[0].kind =
            Kind::Silence(Silence { matchers: vec![], duration: hour, comment: word("c") });
        runbook.steps[0].undo = Some(Undo { kind: Kind::ExpireSilence, effect, timeout, retry });
        runbook.steps[1].kind = Kind::Promql { query: word("up"), expect, range: None };
        runbook.steps[2].kind = ssh();
        runbook.steps[2].probe = Some(ssh());
        runbook
    }

    #[test]
    fn everything_that_is_lacking_is_named_and_nothing_else() {
        let none = BTreeMap::new();
        let people = People::default();
        let nothing =
            Given { prometheus: false, alertmanager: false, secrets: &none, stores: false, people: &people };
        let secret = "needs the secret \"ops_key\", which the config does not have (help: add a section [secrets.ops_key])";
        assert_eq!(
            nothing.lacks(&needy()),
            [
                format!("the step `hush` {ALERTMANAGER}"),
                format!("the undo of the step `hush` {ALERTMANAGER}"),
                format!("the step `ask` {PROMETHEUS}"),
                format!("the step `go` {secret}"),
                format!("the probe of the step `go` {secret}"),
                format!("verify {PROMETHEUS}"),
            ]
        );
        let secrets = [("ops_key".to_owned(), Secret::new("x"))].into();
        let all =
            Given { prometheus: true, alertmanager: true, secrets: &secrets, stores: false, people: &people };
        assert_eq!(all.lacks(&needy()), [] as [&str; 0]);
    }
}
