//! Taken back and repeated: rollback of what is live and of what is over, retry of what is over.

use super::{act, conflict, done, ledger, refused, simply, touch};
use crate::support::alerts::{
    LIMIT, config, finished, fire, journal, only, steps, wait_for_status, wait_for_step,
};
use crate::support::daemon::Daemon;
use crate::support::process::eventually;
use serde_json::{Value, json};

fn step(id: &str, undo: &str) -> String {
    format!(
        "[[steps]]\nid = \"{id}\"\nscript = {{ text = 'echo {id} >> \"$DIR/ledger\"', env = {{ DIR = \"@dir@\" }} }}\n\
         [steps.undo]\nscript = {{ text = '{undo}', env = {{ DIR = \"@dir@\" }} }}\n"
    )
}

fn undoes(id: &str) -> String {
    step(id, &format!("echo undo-{id} >> \"$DIR/ledger\"; echo took {id} back"))
}

const HEAD: &str = "mode = \"auto\"\nalerts = [\"Undoable\"]\ntarget = \"{{ labels.target }}\"\n";

/// Three steps and a long wait before the last.
fn undoable() -> String {
    let wait = "[[steps]]\nid = \"hold\"\nwait = { for = \"5m\" }\n";
    format!("{HEAD}{}{}{wait}{}", undoes("one"), undoes("two"), undoes("three"))
}

#[test]
fn a_stop_with_rollback_undoes_what_has_begun_the_last_first() {
    let gated = "while [ ! -e \"$DIR/gate\" ]; do sleep 0.02; done; echo undo-one >> \"$DIR/ledger\"";
    let runbook = undoable().replace(&undoes("one"), &step("one", gated));
    let daemon = Daemon::start(&config(""), &[("undoable", &runbook)], &[]);
    let id = fire(&daemon, "Undoable", "a");
    wait_for_step(&daemon, &id, 2, "waiting");
    done(&daemon, &id, &json!({ "action": "rollback", "reason": "wrong host" }));
    wait_for_status(&daemon, &id, "rolling_back");
    // Half an undo would be worse than either end.
    for action in ["stop", "pause"] {
        assert!(conflict(&daemon, &id, action).contains("half an undo"));
    }
    assert_eq!(simply(&daemon, &id, "rollback")["status"], "rolling_back");
    let undone = eventually("the second undo", LIMIT, || {
        let execution = daemon.execution(&id);
        (execution["steps"][1]["undo"]["status"] == "succeeded").then_some(execution)
    });
    assert_eq!(undone["steps"][0]["undo"]["status"], "running");
    touch(&daemon, "gate");
    let execution = finished(&daemon, &id);
    assert_eq!((&execution["status"], &execution["reason"]), (&"rolled_back".into(), &"stopped".into()));
    assert_eq!(ledger(&daemon), ["one", "two", "undo-two", "undo-one"]);
    assert_eq!(steps(&execution), ["succeeded", "succeeded", "stopped", "skipped"]);
    assert!(execution["steps"][3]["undo"].is_null());
    assert_eq!(daemon.metric("runbookd_rollbacks_total{runbook=\"undoable\",outcome=\"rolled_back\"}"), 1.0);
    // The undo's output is its own, and so are its errors.
    let output =
        |query: &str| daemon.try_get(&format!("/api/executions/{id}/output/two/1/stdout{query}")).unwrap();
    assert_eq!((output("?part=undo").status, output("?part=undo").text().as_str()), (200, "took two back\n"));
    assert_eq!((output("").status, output("").text().as_str()), (200, ""));
    assert_eq!(output("?part=probe").status, 404);
    assert_eq!(output("?part=undo&item=0").status, 404);
    for bad in ["?part=main", "?item=-1", "?item=x", "?items=1", "?item=1&item=2"] {
        assert_eq!(
            (output(bad).status, output(bad).json()["code"].as_str()),
            (422, Some("invalid")),
            "{bad}"
        );
    }
    let told = journal(&daemon, &id);
    assert_eq!(
        (&only(&told, "stop_requested")["rollback"], &only(&told, "stop_requested")["reason"]),
        (&true.into(), &"wrong host".into())
    );
    only(&told, "rollback_started");
    assert_eq!(simply(&daemon, &id, "rollback"), json!({ "id": id, "status": "rolled_back" }));
    conflict(&daemon, &id, "stop");
}

#[test]
fn a_paused_execution_can_be_taken_back() {
    let daemon = Daemon::start(&config(""), &[("undoable", &undoable())], &[]);
    let id = fire(&daemon, "Undoable", "a");
    wait_for_step(&daemon, &id, 2, "waiting");
    simply(&daemon, &id, "pause");
    simply(&daemon, &id, "rollback");
    assert_eq!(finished(&daemon, &id)["status"], "rolled_back");
    assert_eq!(ledger(&daemon), ["one", "two", "undo-two", "undo-one"]);
}

#[test]
fn what_succeeded_is_taken_back_by_a_new_execution_and_only_once() {
    let runbook = format!("{HEAD}{}{}", undoes("one"), undoes("two"));
    let daemon = Daemon::start(&config(""), &[("undoable", &runbook)], &[]);
    let id = fire(&daemon, "Undoable", "a");
    assert_eq!(finished(&daemon, &id)["status"], "succeeded");
    let answer = done(&daemon, &id, &json!({ "action": "rollback", "reason": "was not needed" }));
    let back = answer["id"].as_str().unwrap().to_owned();
    assert_ne!(back, id);
    let again = simply(&daemon, &id, "rollback");
    assert_eq!(again["id"], back.as_str(), "a second word began a second rollback");
    let execution = finished(&daemon, &back);
    assert_eq!(execution["status"], "rolled_back", "{execution:#}");
    let trigger = &execution["trigger"];
    assert_eq!(
        (&trigger["kind"], &trigger["of"], &trigger["by"]),
        (&"rollback".into(), &id.as_str().into(), &"anonymous".into())
    );
    assert_eq!(trigger["reason"], "was not needed");
    // Asked once more when all is taken back: it is so already, and nothing is undone twice.
    assert_eq!(simply(&daemon, &id, "rollback"), json!({ "id": back, "status": "rolled_back" }));
    assert_eq!(simply(&daemon, &back, "rollback"), json!({ "id": back, "status": "rolled_back" }));
    assert_eq!(ledger(&daemon), ["one", "two", "undo-two", "undo-one"]);
    assert_eq!(daemon.execution(&id)["status"], "succeeded");
    assert_eq!(daemon.executions().len(), 2);
    assert!(conflict(&daemon, &back, "retry").contains("it was a rollback"));
}

#[test]
fn a_rollback_that_failed_goes_on_where_it_stopped() {
    let fails = "[ -e \"$DIR/ok\" ] && echo undo-one >> \"$DIR/ledger\"";
    let runbook = format!("{HEAD}{}{}", step("one", fails), undoes("two"));
    let daemon = Daemon::start(&config(""), &[("undoable", &runbook)], &[]);
    let id = fire(&daemon, "Undoable", "a");
    finished(&daemon, &id);
    let first = simply(&daemon, &id, "rollback")["id"].as_str().unwrap().to_owned();
    let execution = finished(&daemon, &first);
    assert_eq!(
        (&execution["status"], &execution["reason"]),
        (&"rollback_failed".into(), &"undo_failed".into())
    );
    assert_eq!(
        daemon.metric("runbookd_rollbacks_total{runbook=\"undoable\",outcome=\"rollback_failed\"}"),
        1.0
    );
    assert!(conflict(&daemon, &id, "rollback").contains(&first));
    touch(&daemon, "ok");
    let second = simply(&daemon, &first, "rollback")["id"].as_str().unwrap().to_owned();
    let execution = finished(&daemon, &second);
    assert_eq!(
        (&execution["status"], &execution["trigger"]["of"]),
        (&"rolled_back".into(), &id.as_str().into())
    );
    assert_eq!(ledger(&daemon), ["one", "two", "undo-two", "undo-one"]);
    assert_eq!(simply(&daemon, &id, "rollback")["id"], second.as_str());
    assert_eq!(simply(&daemon, &first, "rollback")["id"], second.as_str());
}

#[test]
fn what_cannot_be_undone_says_why() {
    let plain = "[[steps]]\nid = \"x\"\nscript = { text = \"true\" }\n";
    let final_step = "[[steps]]\nid = \"x\"\nirreversible = true\nscript = { text = \"true\" }\n";
    let runbook = |name: &str, step: &str| HEAD.replace("Undoable", name) + step;
    let runbooks = [("plain", runbook("Plain", plain)), ("forward", runbook("Forward", final_step))];
    let runbooks: Vec<(&str, &str)> = runbooks.iter().map(|(id, text)| (*id, text.as_str())).collect();
    let daemon = Daemon::start(&config(""), &runbooks, &[]);
    for (alert, why) in [("Plain", "nothing of what it did has an undo"), ("Forward", "irreversible")] {
        let id = fire(&daemon, alert, "a");
        finished(&daemon, &id);
        assert!(conflict(&daemon, &id, "rollback").contains(why));
    }
}

#[test]
fn a_retry_of_a_failed_execution_is_a_new_one_and_final_stays_final() {
    let runbook = format!(
        "{HEAD}[[steps]]\nid = \"act\"\nscript = {{ text = 'echo act >> \"$DIR/ledger\"; [ -e \"$DIR/ok\" ]', env = {{ DIR = \"@dir@\" }} }}\n[[steps]]\nid = \"hold\"\nwait = {{ for = \"400ms\" }}\n"
    );
    let daemon = Daemon::start(&config(""), &[("undoable", &runbook)], &[]);
    let id = fire(&daemon, "Undoable", "a");
    let failed = finished(&daemon, &id);
    assert_eq!(failed["status"], "failed");
    assert!(
        refused(&daemon, &id, &json!({ "action": "retry", "step": "act" }), 409, "wrong_state")
            .contains("all of it")
    );
    touch(&daemon, "ok");
    let answer = done(&daemon, &id, &json!({ "action": "retry", "reason": "disk is back" }));
    assert_eq!(answer["status"], "queued");
    let new = answer["id"].as_str().unwrap().to_owned();
    // Twice pressed is once meant.
    assert_eq!(simply(&daemon, &id, "retry")["id"], new.as_str());
    let execution = finished(&daemon, &new);
    assert_eq!(execution["status"], "succeeded");
    let trigger = &execution["trigger"];
    assert_eq!((&trigger["kind"], &trigger["of"]), (&"retry".into(), &id.as_str().into()));
    assert_eq!((&trigger["by"], &trigger["reason"]), (&"anonymous".into(), &"disk is back".into()));
    assert_eq!((&execution["target"], &execution["version"]), (&failed["target"], &failed["version"]));
    // What people are told of it goes on after its end.
    let but_for_people = |mut execution: Value| {
        execution.as_object_mut().unwrap().remove("escalations");
        execution
    };
    assert_eq!(but_for_people(daemon.execution(&id)), but_for_people(failed.clone()));
    assert_eq!(ledger(&daemon), ["act", "act"]);
    // What is over may be done once more.
    let third = simply(&daemon, &id, "retry")["id"].as_str().unwrap().to_owned();
    assert!(third != new && third != id);
    assert_eq!(act(&daemon, &third, &json!({ "action": "stop" })).status, 202);
}

#[test]
fn a_stop_said_twice_leaves_the_finally_steps_and_one_after_their_beginning_ends_them() {
    let last = "[[steps]]\nid = \"last\"\nfinally = true\nscript = { text = 'echo last >> \"$DIR/ledger\"; while [ ! -e \"$DIR/gate\" ]; do sleep 0.02; done; echo end >> \"$DIR/ledger\"', env = { DIR = \"@dir@\" } }\n";
    let slow =
        "[[steps]]\nid = \"slow\"\nscript = { text = \"trap '' TERM; while :; do sleep 0.02; done\" }\n";
    let daemon = Daemon::start(&config(""), &[("undoable", &format!("{HEAD}{slow}{last}"))], &[]);
    let id = fire(&daemon, "Undoable", "a");
    wait_for_step(&daemon, &id, 0, "running");
    for _ in 0..3 {
        simply(&daemon, &id, "stop");
    }
    eventually("the finally step", LIMIT, || (ledger(&daemon) == ["last"]).then_some(()));
    simply(&daemon, &id, "stop");
    let execution = finished(&daemon, &id);
    assert_eq!((&execution["status"], steps(&execution)), (&"stopped".into(), vec!["stopped".to_owned(); 2]));
    assert_eq!(ledger(&daemon), ["last"]);
    let stops = journal(&daemon, &id).iter().filter(|(kind, _)| kind == "stop_requested").count();
    assert_eq!(stops, 2);
}
