//! What is done to the gateway by the clock and by hand: maintenance, the checklist, capacity, speed.

use super::{Bench, Ran, shipped, shortened};
use crate::support::redis::Redis;
use crate::support::service::Service;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// A bench with these directories, and the runbooks that maintenance is made of.
fn bench(dirs: &[&str]) -> Bench {
    let bench = Bench::new(None);
    for dir in dirs {
        fs::create_dir(bench.path(dir)).unwrap();
    }
    for id in ["gateway_redis_backup", "gateway_app_backup"] {
        bench.put(id, &shipped(id));
    }
    bench
}

fn execute(bench: &Bench, id: &str, gateway: &Service, compose: &str, more: &[(&str, &str)]) -> Ran {
    let (compose, gateway) = (bench.compose(compose), gateway.address());
    let (project, backups) = (bench.text("project"), bench.text("backups"));
    let mut env = vec![
        ("COMPOSE", compose.as_str()),
        ("GATEWAY", &gateway),
        ("PROJECT_DIR", &project),
        ("BACKUP_DIR", &backups),
    ];
    env.extend(more);
    bench.execute(id, &[], &env)
}

#[test]
fn every_week_there_are_backups_and_room_or_it_is_told() {
    let bench = bench(&["project", "backups", "redis"]);
    let id = "gateway_weekly_maintenance";
    bench.put(id, &shipped(id));
    fs::write(bench.path("project/compose.yaml"), "services: {}\n").unwrap();
    let redis = Redis::start(&bench.path("redis"));
    redis.ask(&["CONFIG", "SET", "appendonly", "yes"]);
    let port = [("REDIS_PORT", redis.port())];
    let well = Service::start(|_, _, _| (200, String::new()));
    execute(&bench, id, &well, "", &port).ended("succeeded");
    assert_eq!(bench.told(), "image prune --force --filter until=168h\n");
    assert_eq!(fs::read_dir(bench.path("backups")).unwrap().count(), 4);
    let sick = Service::start(|_, _, _| (503, String::new()));
    execute(&bench, id, &sick, "", &port).ended("failed");
}

#[test]
fn every_month_a_newer_image_runs_or_the_old_one_again() {
    let id = "gateway_monthly_maintenance";
    for (cases, ends, tagged) in [
        ("*' images '*) echo old ;;\n*' --images '*) echo gateway:1 ;;", "succeeded", false),
        // The newer one does not answer, until the old one has its name again.
        (
            "*' images '*) echo old ;;\n*' --images '*) echo gateway:1 ;;\n\
             tag*) rm @dir@/sick ;;\n*' up '*--force*) ;;\n*' up '*) touch @dir@/sick ;;",
            "rolled_back",
            true,
        ),
    ] {
        let bench = bench(&["project", "backups"]);
        bench.put(id, &shortened(id, &[("3m", "3s")]));
        let sick = bench.path("sick");
        let gateway = Service::start(move |_, _, _| (if sick.exists() { 503 } else { 200 }, String::new()));
        execute(&bench, id, &gateway, cases, &[]).ended(ends);
        assert_eq!(bench.told().contains("tag old gateway:1\n"), tagged, "{}", bench.told());
        assert!(!bench.path("sick").exists());
    }
}

#[test]
fn every_quarter_the_newest_backups_are_loaded_and_a_bad_one_is_told() {
    let bench = bench(&["project", "backups", "redis"]);
    let id = "gateway_quarterly_maintenance";
    bench.put(id, &shipped(id));
    let redis = Redis::start(&bench.path("redis"));
    redis.ask(&["SET", "kept", "1"]);
    let gateway = Service::start(|_, _, _| (200, String::new()));
    let port = [("REDIS_PORT", redis.port())];
    let ran = execute(&bench, id, &gateway, "", &port);
    ran.ended("succeeded");
    assert!(ran.out.contains("has 1 keys"), "{}", ran.out);
    let bad = bench.path("backups/redis-bad.rdb");
    fs::write(&bad, "REDIS0011").unwrap();
    let later = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    fs::File::options().write(true).open(&bad).unwrap().set_modified(later).unwrap();
    execute(&bench, id, &gateway, "", &port).ended("failed");
}

#[test]
fn before_production_the_limiter_must_refuse() {
    let id = "gateway_pre_production";
    for (capacity, ends) in [(100, "succeeded"), (u32::MAX, "failed")] {
        let bench = bench(&["project", "backups", "redis"]);
        bench.put(id, &shipped(id));
        let redis = Redis::start(&bench.path("redis"));
        redis.ask(&["CONFIG", "SET", "save", "60 1"]);
        for file in ["project/.env", "backups/redis-1.rdb", "backups/app-1.tar.gz"] {
            fs::write(bench.path(file), "there").unwrap();
        }
        let count = AtomicU32::new(0);
        let gateway = Service::start(move |_, path, _| {
            let taken = if path == "/health" { 0 } else { count.fetch_add(1, Ordering::SeqCst) };
            (if taken < capacity { 200 } else { 429 }, String::new())
        });
        let more = [("REDIS_PORT", redis.port()), ("REQUESTS", "150")];
        execute(&bench, id, &gateway, "", &more).ended(ends);
        let state = redis.ask(&["HGET", "circuit_breaker:upstream_service", "state"]);
        assert_eq!(state, if ends == "succeeded" { "CLOSED" } else { "" });
    }
}

#[test]
fn a_capacity_is_raised_or_the_env_file_is_what_it_was() {
    let id = "gateway_rate_limit_rejections";
    let before = "RATE_LIMIT_CAPACITY=1000\nSECRET=kept\n";
    for (has, ends, after) in [
        ("sed -n s/^RATE_LIMIT_CAPACITY=//p .env", "succeeded", "SECRET=kept\nRATE_LIMIT_CAPACITY=5000\n"),
        ("echo 1000", "rolled_back", before),
    ] {
        let bench = bench(&["project", "backups", "redis"]);
        bench.put(id, &shipped(id));
        fs::write(bench.path("project/.env"), before).unwrap();
        let redis = Redis::start(&bench.path("redis"));
        redis.ask(&["HSET", "rate_limit:10.0.0.1", "tokens", "0"]);
        let gateway = Service::start(|_, _, _| (200, String::new()));
        let ran =
            execute(&bench, id, &gateway, &format!("*' exec '*) {has} ;;"), &[("REDIS_PORT", redis.port())]);
        ran.ended(ends);
        assert!(ran.out.contains("0 rate_limit:10.0.0.1"), "{}", ran.out);
        assert_eq!(fs::read_to_string(bench.path("project/.env")).unwrap(), after);
    }
}

/// A gateway that is slow unless so many of it run.
fn latency(needed: u32, slow_upstream: bool, ends: &str) -> String {
    let id = "gateway_latency";
    let bench = bench(&["project", "backups", "redis"]);
    bench.put(id, &shortened(id, &[("5s", "100ms"), ("20s", "200ms")]));
    fs::write(bench.path("count"), "1").unwrap();
    let redis = Redis::start(&bench.path("redis"));
    let slowly = |slow: bool| {
        if slow {
            thread::sleep(Duration::from_millis(1500));
        }
        (200, String::new())
    };
    let count = bench.path("count");
    let gateway = Service::start(move |_, _, _| {
        let runs: u32 = fs::read_to_string(&count).unwrap().trim().parse().unwrap_or(0);
        slowly(runs < needed)
    });
    let upstream = Service::start(move |_, _, _| slowly(slow_upstream));
    let upstream = upstream.address();
    let compose =
        "*' ps '*) seq \"$(cat @dir@/count)\" ;;\n*' up '*) n=${*##*=}; echo \"${n%% *}\" > @dir@/count ;;";
    execute(&bench, id, &gateway, compose, &[("REDIS_PORT", redis.port()), ("UPSTREAM", &upstream)])
        .ended(ends);
    fs::read_to_string(bench.path("count")).unwrap().trim().to_owned()
}

#[test]
fn a_slow_gateway_gets_company_unless_that_does_not_help() {
    assert_eq!(latency(3, false, "succeeded"), "3");
    assert_eq!(latency(9, false, "rolled_back"), "1");
    assert_eq!(latency(3, true, "failed"), "1");
}
