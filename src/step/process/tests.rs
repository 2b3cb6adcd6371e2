//! The end of processes: by kill, by timeout, by being dropped, and of what they leave behind.

use super::super::tests::{BOTH, Bench, WORLD, bench, bench_in, command, sh};
use super::super::{AttemptContext, Call, Finished, KillSignal, OutputStream, kill_pair};
use super::*;
use crate::model::{AttemptOutcome, Part, Role};
use std::sync::Arc;

/// Processes that are alive and have `word` as an argument of their own.
fn alive(word: &str) -> Vec<i32> {
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|arg| arg == word.as_bytes())
    };
    proc::all().into_iter().filter(has).collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs `call` until it has printed something, then asks it to end with `grace`.
async fn run_and_kill(bench: Bench, call: Call, grace: Duration) -> (Finished, Duration) {
    let bench = Arc::new(bench);
    let (killer, signal) = kill_pair();
    let running = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { bench.runner.run(&bench.context(), &call, signal).await }
    });
    let AttemptContext { execution, step, .. } = bench.context();
    until("it prints something", || {
        let live = bench.runner.live(&execution, &step, Part::MAIN, 1);
        live.is_some_and(|live| live.read(OutputStream::Stdout, 0, 9).unwrap().total > 0)
    })
    .await;
    let start = Instant::now();
    killer.kill(grace);
    let finished = running.await.unwrap();
    bench.check_nothing_left();
    (finished, start.elapsed())
}

#[tokio::test]
async fn t33_who_ignores_sigterm_is_killed_after_the_grace() {
    let _world = WORLD.read().await;
    for containment in BOTH {
        let call = sh("trap '' TERM; echo ready; while :; do sleep 0.05; done");
        let (finished, took) = run_and_kill(bench_in(containment), call, Duration::from_millis(400)).await;
        assert_eq!((finished.outcome, finished.signal), (AttemptOutcome::Stopped, Some(9)));
        assert!((Duration::from_millis(400)..Duration::from_secs(4)).contains(&took), "{took:?}");
    }
}

#[tokio::test]
async fn who_heeds_sigterm_may_clean_up_and_its_exit_code_is_told() {
    let _world = WORLD.read().await;
    for containment in BOTH {
        let call = sh("trap 'echo cleaned; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
        let (finished, _) = run_and_kill(bench_in(containment), call, Duration::from_secs(10)).await;
        assert_eq!((finished.outcome, finished.exit_code), (AttemptOutcome::Stopped, Some(7)));
        assert_eq!(finished.stdout.head, b"ready\ncleaned\n");
    }
}

#[tokio::test]
async fn t33_a_timeout_ends_it_and_keeps_what_was_printed() {
    let _world = WORLD.read().await;
    for containment in BOTH {
        let finished =
            bench_in(containment).run_for(&sh("echo before; sleep 70001"), Duration::from_millis(300)).await;
        assert_eq!((finished.outcome, finished.signal), (AttemptOutcome::TimedOut, Some(15)));
        assert_eq!(finished.stdout.head, b"before\n");
        assert_eq!(finished.error.as_deref(), Some("it was killed after its timeout of 300ms"));
        assert_eq!(alive("70001"), [] as [i32; 0]);
    }
}

#[tokio::test]
async fn t33_setsid_and_double_forks_do_not_escape_a_kill() {
    let _world = WORLD.read().await;
    for containment in BOTH {
        let call = sh(
            "setsid sleep 70002 & (sleep 70003 &) ; (setsid -f sleep 70004 &) ; env -i setsid -f sleep 70005
            trap '' TERM; while [ $(pgrep -c -f '^sleep 7000[2345]$') -lt 4 ]; do sleep 0.02; done
            echo ready; while :; do sleep 0.05; done",
        );
        let (finished, _) = run_and_kill(bench_in(containment), call, Duration::from_millis(50)).await;
        assert_eq!(finished.outcome, AttemptOutcome::Stopped);
        assert_eq!(finished.error.as_deref(), Some("it was killed on request"), "no survivors");
        for word in ["70002", "70003", "70004", "70005"] {
            assert_eq!(alive(word), [] as [i32; 0], "{word}");
        }
    }
}

#[tokio::test]
async fn t33_one_that_forks_while_it_is_killed_does_not_win() {
    let _world = WORLD.read().await;
    for containment in BOTH {
        let call = sh("setsid -f sh -c 'while :; do setsid -f sleep 70016; done'; echo ready; sleep 70016");
        let (finished, _) = run_and_kill(bench_in(containment), call, Duration::from_millis(50)).await;
        assert_eq!(finished.error.as_deref(), Some("it was killed on request"), "no survivors");
        assert_eq!(alive("70016"), [] as [i32; 0]);
    }
}

#[tokio::test]
async fn t33_one_that_hides_its_whole_origin_is_ended_when_no_other_attempt_runs() {
    let _world = WORLD.write().await;
    for containment in BOTH {
        let call =
            sh("cd / && env -i setsid -f sleep 70006; while ! pgrep -f '^sleep 70006$'; do sleep 0.02; done");
        let finished = bench_in(containment).run(&call).await;
        assert_eq!((finished.outcome, finished.error), (AttemptOutcome::Succeeded, None));
        assert_eq!(alive("70006"), [] as [i32; 0]);
    }
}

#[tokio::test]
async fn t33_a_leader_that_ends_before_its_children_keeps_its_result_and_they_are_gone() {
    let _world = WORLD.read().await;
    for containment in BOTH {
        let start = Instant::now();
        let finished =
            bench_in(containment).run(&sh("sleep 70007 & setsid -f sleep 70008; echo done; exit 3")).await;
        assert!(start.elapsed() < Duration::from_secs(4), "the open pipe must not be waited for");
        assert_eq!((finished.outcome, finished.exit_code), (AttemptOutcome::Failed, Some(3)));
        assert_eq!(finished.error.as_deref(), Some("it exited with 3"));
        assert_eq!(finished.stdout.head, b"done\n");
        assert_eq!((alive("70007"), alive("70008")), (vec![], vec![]));
    }
}

#[tokio::test]
async fn t33_a_run_that_is_dropped_leaves_no_process_and_no_directory() {
    let _world = WORLD.read().await;
    for containment in BOTH {
        let bench = bench_in(containment);
        let (context, call) =
            (bench.context(), sh("setsid -f sleep 70009; trap '' TERM; sleep 70010; sleep 70010"));
        let run = bench.runner.run(&context, &call, KillSignal::never());
        assert!(tokio::time::timeout(Duration::from_millis(300), run).await.is_err());
        until("the processes are gone", || alive("70009").is_empty() && alive("70010").is_empty()).await;
        until("the directory is gone", || std::fs::read_dir(&bench.dirs.work).unwrap().count() == 0).await;
        bench.check_nothing_left();
    }
}

#[tokio::test]
async fn what_a_step_made_in_its_directory_goes_with_it() {
    let _world = WORLD.read().await;
    let text =
        "mkdir -p a/b && echo x > a/b/c && ln -s / root && mkdir shut && echo x > shut/y && chmod 000 shut";
    let finished = bench().run(&sh(text)).await;
    assert_eq!((finished.outcome, finished.error), (AttemptOutcome::Succeeded, None));
}

#[tokio::test]
async fn no_zombie_remains_and_nobody_elses_child_is_reaped() {
    let _world = WORLD.write().await;
    // Started by a thread that lives on, as the workers of a daemon do.
    let (spawned, other) = std::sync::mpsc::channel();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let starter = std::thread::spawn(move || {
        spawned.send(std::process::Command::new("true").spawn().unwrap()).unwrap();
        wait.recv().unwrap();
    });
    let mut other = other.recv().unwrap();
    let bench = bench();
    for _ in 0..20 {
        let text = "for i in 1 2 3 4 5; do (sleep 0.01 &); (setsid -f sleep 0.01 &); done; sleep 0.02";
        assert_eq!(bench.run(&sh(text)).await.outcome, AttemptOutcome::Succeeded);
    }
    let other_pid = other.id() as i32;
    let me = std::process::id() as i32;
    let zombies = || {
        let is_zombie = |pid: &i32| proc::stat(*pid).is_some_and(|stat| stat.is_zombie);
        proc::children(me).into_iter().filter(|pid| *pid != other_pid && is_zombie(pid)).collect::<Vec<_>>()
    };
    until("no zombies", || zombies().is_empty()).await;
    assert!(other.wait().expect("its status was stolen").success());
    done.send(()).unwrap();
    starter.join().unwrap();
}

#[tokio::test]
async fn orphans_of_a_long_step_are_reaped_while_it_runs() {
    let _world = WORLD.write().await;
    let bench = bench();
    let me = std::process::id() as i32;
    let context = bench.context();
    let call = sh("for i in 1 2 3 4 5; do (setsid -f true &); done; sleep 4");
    let run = bench.runner.run(&context, &call, KillSignal::never());
    tokio::pin!(run);
    let look = async {
        tokio::time::sleep(Duration::from_millis(3200)).await;
        let is_zombie = |pid: &i32| proc::stat(*pid).is_some_and(|stat| stat.is_zombie);
        proc::children(me).into_iter().filter(is_zombie).count()
    };
    tokio::select! {
        finished = &mut run => panic!("too early: {finished:?}"),
        zombies = look => assert_eq!(zombies, 0),
    }
    assert_eq!(run.await.outcome, AttemptOutcome::Succeeded);
}

/// A part that starts a child in a session and directory of its own and then waits to be told to end.
fn part_with_child(word: &str, last: &str) -> Call {
    // Only the variables still say whose the child is.
    sh(&format!("cd /; HOME=/ setsid -f sleep {word}; echo ready; {last}"))
}

#[tokio::test]
async fn the_end_of_one_part_leaves_the_children_of_another_alone() {
    let _world = WORLD.read().await;
    let bench = Arc::new(bench());
    let run = |part: Part, call: Call| {
        let bench = Arc::clone(&bench);
        let (killer, signal) = kill_pair();
        let context = AttemptContext { part, idempotency_key: format!("key-{part}"), ..bench.context() };
        let running = tokio::spawn(async move { bench.runner.run(&context, &call, signal).await });
        (killer, running)
    };
    let (killer, stays) = run(Part::item(0), part_with_child("70021", "sleep 70020"));
    until("the first part's child runs", || alive("70021").len() == 1).await;

    let (_, ends) = run(Part::item(1), part_with_child("70022", "exit 3"));
    let ended = ends.await.unwrap();
    assert_eq!((ended.exit_code, alive("70022")), (Some(3), vec![]), "its own child goes with it");
    let (undo, undone) = run(Part::item(0).with(Role::Undo), part_with_child("70023", "sleep 70024"));
    until("the third part's child runs", || alive("70023").len() == 1).await;
    undo.kill(Duration::ZERO);
    assert_eq!(undone.await.unwrap().outcome, AttemptOutcome::Stopped);
    assert_eq!((alive("70023"), alive("70024")), (vec![], vec![]));
    assert_eq!((alive("70020").len(), alive("70021").len()), (1, 1), "the other part goes on");

    killer.kill(Duration::ZERO);
    let stopped = stays.await.unwrap();
    assert_eq!((stopped.outcome, &stopped.stdout.head[..]), (AttemptOutcome::Stopped, &b"ready\n"[..]));
    assert_eq!((alive("70020"), alive("70021")), (vec![], vec![]));
    bench.check_nothing_left();
}

#[test]
fn a_sweep_knows_the_directories_of_every_part_by_the_variables_of_its_processes() {
    for (name, expected) in [
        ("e_1.s.1", true),
        ("e_1.s.undo.1", true),
        ("e_1.s.probe-item3.1", true),
        ("e_1.s.11", false),
        ("e_1.s.undo.11", false),
        ("e_1.s..1", false),
        ("e_1.s.a.b.1", false),
        ("e_1.t.1", false),
        ("e_1.s.2", false),
        ("e_1.s", false),
    ] {
        assert_eq!(sweep::is_of(name, "e_1.s.", ".1"), expected, "{name}");
    }
}

#[tokio::test]
async fn a_sweep_ends_what_a_dead_daemon_left_and_removes_its_directories() {
    let _world = WORLD.write().await;
    let bench = bench();
    let name = bench.context().name();
    let home = bench.dirs.work.join(&name);
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("file"), "x").unwrap();
    std::fs::write(bench.dirs.outputs.join("a.stdout.new"), "x").unwrap();
    std::fs::write(bench.dirs.outputs.join("a.stdout"), "x").unwrap();
    let ids = format!("RUNBOOKD_EXECUTION_ID={} RUNBOOKD_STEP=restart RUNBOOKD_ATTEMPT=1", bench.execution);
    // Plays the daemon: starts processes as a step would have, in sessions of their own, and is killed.
    let text = format!(
        "HOME={home} setsid sh -c 'setsid env -i sleep 70011 & env -i sleep 70012 & wait' &
         cd /; {ids} setsid sleep 70013 & setsid sleep 70014 & wait",
        home = home.display()
    );
    let mut daemon = std::thread::spawn(move || {
        std::process::Command::new("sh").args(["-c", &text]).current_dir("/").spawn().unwrap()
    })
    .join()
    .unwrap();
    let all_run = || ["70011", "70012", "70013", "70014"].iter().all(|word| alive(word).len() == 1);
    until("the processes of the daemon run", all_run).await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let escapee = alive("70011");

    let swept = sweep_leftovers(&bench.dirs, None);

    assert_eq!((alive("70012"), alive("70013")), (vec![], vec![]));
    assert_eq!(alive("70014").len(), 1, "what is not ours is left alone");
    assert_eq!(swept.survivors, [] as [&str; 0]);
    assert_eq!(swept.problems, [] as [&str; 0]);
    assert_eq!(swept.directories, [name]);
    assert!(swept.processes.iter().filter(|line| line.ends_with("(sleep)")).count() >= 2, "{swept:?}");
    assert_eq!(std::fs::read_dir(&bench.dirs.work).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(&bench.dirs.outputs).unwrap().count(), 1, "a whole output is kept");
    assert_eq!(sweep_leftovers(&bench.dirs, None), Swept::default());
    for pid in alive("70014").into_iter().chain(escapee) {
        kill_exactly_now(pid);
    }
}

fn kill_exactly_now(pid: i32) {
    if let Some(stat) = proc::stat(pid) {
        strays::kill_exactly(pid, &stat);
    }
}

#[tokio::test]
async fn a_hundred_at_once_all_end_well() {
    let _world = WORLD.read().await;
    let bench = Arc::new(bench());
    let runs = (1..=100).map(|attempt| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move {
            let context = AttemptContext { attempt, ..bench.context() };
            let call = Call::Command(command("sh", &["-c", "sleep 70015 & echo $RUNBOOKD_ATTEMPT"]));
            (attempt, bench.runner.run(&context, &call, KillSignal::never()).await)
        })
    });
    for run in runs.collect::<Vec<_>>() {
        let (attempt, finished) = run.await.unwrap();
        assert_eq!((finished.outcome, &finished.error), (AttemptOutcome::Succeeded, &None));
        assert_eq!(finished.stdout.head, format!("{attempt}\n").as_bytes());
    }
    bench.check_nothing_left();
    assert_eq!(alive("70015"), [] as [i32; 0]);
}
