//! Power cuts of the whole daemon under load: what it acknowledged is there, and every start is clean.
//!
//! May import: `support`. Must never: look into the storage between a cut and the next start.

use crate::support::alerts::{WEBHOOK, body, config};
use crate::support::daemon::is_final;
use crate::support::http;
use crate::support::lives::{Lives, Random, seed};
use crate::support::powercut::{Names, Shim};
use crate::support::process::eventually;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const CUTS: u64 = 30;
const SENDERS: u64 = 6;
/// Bytes of output: more than what is kept in the journal itself.
const OUTPUT: usize = 6000;

const LOUD: &str = r#"
mode = "auto"
alerts = ["Loud"]
target = "{{ labels.target }}"
[[steps]]
id = "loud"
effect = "idempotent"
[steps.script]
text = '''
i=0
while [ $i -lt 100 ]; do printf '%059d\n' $i; i=$((i + 1)); done
'''
[[steps]]
id = "quiet"
effect = "idempotent"
script = { text = "echo done" }
"#;

#[test]
fn what_the_daemon_acknowledged_and_every_output_it_names_survive_power_cuts() {
    let mut random = Random::new(seed());
    let mut lives = Lives::new(&config("[automation]\nmax_running = 4"), &[("loud", LOUD)]);
    let shim = Shim::over(&lives.storage());
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    let mut rounds_with_acknowledgements = 0;
    for cut in 0..CUTS {
        let mut command = lives.command();
        shim.arm(&mut command, if cut % 2 == 0 { Names::AtSync } else { Names::AtOnce });
        lives.begin(command);
        // It also recovers from the last cut here, and is cut again meanwhile in one round of five.
        if cut % 5 == 4 {
            thread::sleep(Duration::from_millis(random.below(200)));
        } else {
            lives.wait_ready();
            let before = acknowledged.len();
            acknowledged.extend(load(&mut lives, cut, Duration::from_millis(50 + random.below(600))));
            rounds_with_acknowledgements += usize::from(acknowledged.len() > before);
        }
        lives.end();
        shim.cut();
    }
    lives.begin(lives.command());
    lives.wait_ready();
    eventually("the end of every execution", Duration::from_secs(60), || {
        lives.executions().iter().all(is_final).then_some(())
    });
    println!("{} acknowledged", acknowledged.len());
    assert!(
        rounds_with_acknowledgements as u64 > CUTS / 2,
        "only {rounds_with_acknowledgements} rounds under load"
    );
    assert!(!lives.log().contains("panicked"), "{}", lives.log());
    check(&lives, &acknowledged);
}

/// Delivers from several senders until the daemon is killed after `time`; the execution of each target that was
/// acknowledged.
fn load(lives: &mut Lives, cut: u64, time: Duration) -> BTreeMap<String, String> {
    let over = AtomicBool::new(false);
    let address = lives.address().to_owned();
    thread::scope(|scope| {
        let (over, address) = (&over, &address);
        let send = move |sender| {
            let mut acknowledged = Vec::new();
            for number in 0..40 {
                let target = format!("{cut}-{sender}-{number}");
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(answer) = http::post(address, WEBHOOK, &body("Loud", "firing", &[&target])) else {
                    continue;
                };
                assert_eq!(answer.status, 200, "{}", answer.text());
                let id = answer.json()["execution_ids"][0].as_str().unwrap().to_owned();
                acknowledged.push((target, id));
            }
            acknowledged
        };
        let senders: Vec<_> = (0..SENDERS).map(|sender| scope.spawn(move || send(sender))).collect();
        thread::sleep(time);
        lives.kill();
        over.store(true, Ordering::SeqCst);
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    })
}

fn check(lives: &Lives, acknowledged: &BTreeMap<String, String>) {
    let executions = lives.executions();
    let mut by_target: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for execution in &executions {
        by_target
            .entry(execution["target"].as_str().unwrap())
            .or_default()
            .push(execution["id"].as_str().unwrap());
    }
    for (target, id) in acknowledged {
        assert_eq!(by_target.get(target.as_str()), Some(&vec![id.as_str()]), "{target} was acknowledged");
    }
    for execution in &executions {
        let id = execution["id"].as_str().unwrap();
        let execution = lives.json(&format!("/api/executions/{id}"));
        assert_eq!(execution["status"], "succeeded", "{execution:#}");
        let attempt: &Value = execution["steps"][0]["attempts"].as_array().unwrap().last().unwrap();
        assert_eq!(attempt["stdout_bytes"], OUTPUT);
        let output =
            http::get(lives.address(), &format!("/api/executions/{id}/output/loud/1/stdout")).unwrap();
        assert_eq!(output.status, 200, "the output of {id} is named and gone: {}", output.text());
        assert_eq!(output.body.len(), OUTPUT, "the output of {id} is not whole");
        let numbers: Vec<usize> = output.text().lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.iter().copied().eq(0..100), "the output of {id} is not what was written");
    }
}
