//! Steps that try to outlive their end, and steps that eat up the machine.

use super::{BOTH, House, alive, groups_left, script, zombies};
use crate::support::alerts::{LIMIT, body};
use crate::support::http;
use crate::support::process::eventually;
use std::time::{Duration, Instant};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/children/escape.py");

fn escaping(word: &str) -> String {
    script("", &format!("exec python3 {SCRIPT} {word}"))
}

fn house(containment: &str, word: &str) -> House {
    House::new("", &[("escape", &escaping(word))]).with("RUNBOOKD_STEPS__CONTAINMENT", containment)
}

#[test]
fn t33_nothing_survives_a_stop_in_either_way_of_holding_it_together() {
    for (containment, word) in BOTH.into_iter().zip(["81001", "81002"]) {
        let house = house(containment, word).start();
        let status = house.lives.json("/api/sre/runbooks/integration-status");
        assert_eq!(status["containment"], containment);
        let id = house.execute("escape");
        eventually("it has spread", LIMIT, || (alive(word).len() > 8).then_some(()));
        house.stop(&id);
        let execution = house.finished(&id);
        assert_eq!(alive(word), [] as [i32; 0], "{containment}");
        assert_eq!(execution["status"], "stopped", "{execution:#}");
        let error = &execution["steps"][0]["attempts"][0]["error"];
        assert_eq!(error, "it was killed on request", "no survivors, {containment}");
        assert_eq!(groups_left(&house), 0);
        let pid = house.pid();
        eventually("no zombie", LIMIT, || (zombies(pid) == 0).then_some(()));
    }
}

#[test]
fn t33_a_step_that_makes_groups_of_its_own_and_hides_beside_another_is_ended_with_all_of_it() {
    let word = "81003";
    // Root may make groups within its own, and does not care for the variables.
    let text = format!(
        "own=$(awk -F: '$1 == 0 {{ print $3 }}' /proc/self/cgroup)\n\
         for mount in /sys/fs/cgroup /sys/fs/cgroup/unified; do\n\
           if [ -e $mount$own/cgroup.procs ]; then at=$mount$own; fi\ndone\n\
         mkdir $at/deep $at/deep/er\n(echo 0 > $at/deep/er/cgroup.procs; cd /; exec env -i setsid sleep {word}) &\n\
         until pgrep -f '^sleep {word}$' >/dev/null; do sleep 0.02; done"
    );
    let other = script("", "sleep 25").replace("target = \"t\"", "target = \"other\"");
    let house = House::new("", &[("deep", &script("", &text)), ("other", &other)])
        .with("RUNBOOKD_STEPS__CONTAINMENT", "cgroup")
        .start();
    let beside = house.execute("other");
    let attempt = house.attempt("deep");
    assert_eq!(attempt["outcome"], "succeeded", "{attempt:#}");
    assert_eq!((alive(word).len(), &attempt["error"]), (0, &serde_json::Value::Null));
    assert_eq!(groups_left(&house), 1, "only that of the other");
    house.stop(&beside);
    house.finished(&beside);
    assert_eq!(groups_left(&house), 0);
}

#[test]
fn t37_what_a_killed_daemon_left_is_ended_at_the_next_start() {
    for (containment, word) in BOTH.into_iter().zip(["81004", "81005"]) {
        let mut house = house(containment, word).start();
        house.execute("escape");
        eventually("it has spread", LIMIT, || (alive(word).len() > 3).then_some(()));
        house.lives.kill();
        assert!(!alive(word).is_empty(), "nothing is left, so this shows nothing");
        // The other way in the next life: what was begun in a group is found without one too.
        house.env.retain(|(name, _)| name != "RUNBOOKD_STEPS__CONTAINMENT");
        let mut house = house.with("RUNBOOKD_STEPS__CONTAINMENT", containment);
        house.begin();
        house.lives.wait_ready();
        if containment == "cgroup" {
            assert_eq!(alive(word), [] as [i32; 0], "{containment}");
        } else {
            // Without groups what hides its whole origin is nobody's once its parents are dead.
            assert_eq!(alive(SCRIPT), [] as [i32; 0], "{containment}");
            super::kill_all(word);
        }
        house.lives.logged("an earlier runbookd left these behind", 1);
        assert_eq!(groups_left(&house), 0);
    }
}

#[test]
fn t34_a_fork_bomb_and_a_memory_hog_disturb_neither_the_webhook_nor_another_execution() {
    let bomb = script(
        "user = \"nobody\"\nlimits = { processes = 40, memory = \"512MiB\", cpu = \"100%\", files = 64 }",
        "exec python3 -c 'import os, time\nwhile True:\n  try: os.fork()\n  except OSError: time.sleep(0.01)' 81006",
    );
    let hog = script(
        "limits = { memory = \"256MiB\" }",
        "exec python3 -c 'x = []\nwhile True: x.append(bytearray(1 << 24))'",
    )
    .replace("target = \"t\"", "target = \"other\"");
    let quick = "mode = \"auto\"\nalerts = [\"Quick\"]\ntarget = \"{{ labels.target }}\"\n[[steps]]\nid = \"a\"\ncommand = { program = \"true\" }\n";
    let house = House::new("", &[("bomb", &bomb), ("hog", &hog), ("quick", quick)]).start();
    let id = house.execute("bomb");
    eventually("the bomb is at its limit", LIMIT, || (alive("81006").len() > 20).then_some(()));
    let hog = house.execute("hog");
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let began = Instant::now();
        let body = body("Quick", "firing", &[&format!("t{number}")]);
        let answer = http::post(house.lives.address(), "/api/sre/alerts/webhook", &body).unwrap();
        slowest = slowest.max(began.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let id = answer.json()["execution_ids"][0].as_str().unwrap().to_owned();
        assert_eq!(house.finished(&id)["status"], "succeeded");
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(alive("81006").len() <= 60, "the limit of processes holds: {}", alive("81006").len());
    let hog = house.finished(&hog);
    assert_eq!(hog["status"], "failed", "{hog:#}");
    house.stop(&id);
    assert_eq!(house.finished(&id)["status"], "stopped");
    assert_eq!(alive("81006"), [] as [i32; 0]);
}

#[test]
fn t34_a_step_is_killed_before_the_daemon_when_memory_runs_out_and_spins_no_longer_than_its_share() {
    let score = script("", "sleep 0.3; cat /proc/$$/oom_score_adj");
    let spin = script("limits = { cpu = \"3%\", files = 32 }", "while :; do :; done");
    let files = script("limits = { files = 32 }", "ulimit -n");
    let house = House::new("", &[("score", &score), ("spin", &spin), ("files", &files)]).start();
    let told: i32 = house.output("score").trim().parse().unwrap();
    assert!(told >= 500, "{told}");
    assert_eq!(house.output("files"), "32\n");
    let attempt = house.attempt("spin");
    assert_eq!(attempt["outcome"], "failed", "{attempt:#}");
    assert!(matches!(attempt["signal"].as_i64(), Some(9 | 24)), "its processor time: {attempt:#}");
}
