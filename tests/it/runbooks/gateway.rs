//! The gateway's runbooks, with a real redis, a gateway of the test, and a stand-in for docker.

use super::{Bench, Desk, shipped, shortened};
use crate::support::redis::Redis;
use crate::support::service::Service;
use serde_json::json;
use std::fs;
use std::path::PathBuf;

const KEY: &str = "circuit_breaker:upstream_service";

/// A service that answers 200 while `file` is there, else 503.
fn well_while(file: PathBuf) -> Service {
    Service::start(move |_, _, _| (if file.exists() { 200 } else { 503 }, String::new()))
}

fn service_down(cases: &str) -> (Bench, super::Ran) {
    let bench = Bench::new(None);
    bench.put("gateway_service_down", &shortened("gateway_service_down", &[("1m", "3s"), ("2m", "4s")]));
    let gateway = well_while(bench.path("up"));
    let compose = bench.compose(cases);
    let (project, address) = (bench.text(""), gateway.address());
    let project = project.trim_end_matches('/');
    let env = [("COMPOSE", compose.as_str()), ("PROJECT_DIR", project), ("GATEWAY", address.as_str())];
    let ran = bench.execute("gateway_service_down", &[], &env);
    (bench, ran)
}

#[test]
fn a_gateway_that_is_down_is_recreated() {
    let (bench, ran) = service_down("*' up '*) touch @dir@/up ;;\n*' logs '*) echo the last words ;;");
    ran.ended("succeeded");
    assert!(ran.out.contains("the last words"), "{}", ran.out);
    let told = bench.told();
    assert!(told.contains("compose up --detach --force-recreate --no-deps api-gateway\n"), "{told}");
    assert!(!told.contains("--force-recreate\n"), "{told}");
}

#[test]
fn a_gateway_that_is_down_with_its_project_has_all_of_it_recreated() {
    let (bench, ran) = service_down("*--no-deps*) ;;\n*' up '*) touch @dir@/up ;;");
    ran.ended("succeeded");
    assert!(bench.told().contains("compose up --detach --force-recreate\n"), "{}", bench.told());
}

#[test]
fn a_gateway_that_stays_down_is_told_as_failed_with_its_log() {
    let (_bench, ran) = service_down("*' logs '*) echo the last words ;;");
    ran.ended("failed");
    assert!(ran.out.contains("the last words"), "{}", ran.out);
}

#[test]
fn a_gateway_that_answers_is_left_alone() {
    let bench = Bench::new(None);
    bench.put("gateway_service_down", &shipped("gateway_service_down"));
    let gateway = Service::start(|_, _, _| (200, String::new()));
    let (compose, address, project) = (bench.compose(""), gateway.address(), bench.text("x"));
    fs::create_dir(&project).unwrap();
    let env = [("COMPOSE", compose.as_str()), ("PROJECT_DIR", &project), ("GATEWAY", &address)];
    bench.execute("gateway_service_down", &[], &env).ended("succeeded");
    assert_eq!(bench.told(), "compose logs --no-color --tail 100 api-gateway\n");
}

/// Executes the runbook of the stuck breaker; how the breaker stands before and after.
fn breaker(upstream: u16, gateway: u16, before: &str, ends: &str) -> String {
    let bench = Bench::new(None);
    bench.put("gateway_breaker_stuck_open", &shipped("gateway_breaker_stuck_open"));
    fs::create_dir(bench.path("redis")).unwrap();
    let redis = Redis::start(&bench.path("redis"));
    redis.ask(&["HSET", KEY, "state", before, "failure_count", "9"]);
    let upstream = Service::start(move |_, _, _| (upstream, String::new()));
    let gateway = Service::start(move |_, _, _| (gateway, String::new()));
    let (upstream, gateway) = (upstream.address(), gateway.address());
    let env = [("UPSTREAM", upstream.as_str()), ("GATEWAY", &gateway), ("REDIS_PORT", redis.port())];
    bench.execute("gateway_breaker_stuck_open", &[], &env).ended(ends);
    redis.ask(&["HGET", KEY, "state"])
}

#[test]
fn a_breaker_that_is_stuck_is_closed() {
    assert_eq!(breaker(200, 200, "OPEN", "succeeded"), "CLOSED");
}

#[test]
fn a_breaker_that_is_open_for_a_reason_stays_open() {
    assert_eq!(breaker(503, 200, "OPEN", "failed"), "OPEN");
}

#[test]
fn a_breaker_behind_which_nothing_works_is_opened_again() {
    assert_eq!(breaker(200, 502, "OPEN", "rolled_back"), "OPEN");
}

#[test]
fn a_breaker_that_is_not_open_is_left_alone() {
    assert_eq!(breaker(503, 502, "HALF_OPEN", "succeeded"), "HALF_OPEN");
}

fn upstream_errors(cases: &str, ends: &str) -> (Bench, String) {
    let bench = Bench::new(None);
    bench.put("gateway_upstream_errors", &shortened("gateway_upstream_errors", &[("2m", "3s")]));
    fs::create_dir(bench.path("redis")).unwrap();
    let redis = Redis::start(&bench.path("redis"));
    redis.ask(&["HSET", KEY, "state", "HALF_OPEN"]);
    let upstream = well_while(bench.path("up"));
    let (compose, address, project) = (bench.compose(cases), upstream.address(), bench.text("redis"));
    let env = [
        ("COMPOSE", compose.as_str()),
        ("PROJECT_DIR", &project),
        ("UPSTREAM", &address),
        ("REDIS_PORT", redis.port()),
    ];
    bench.execute("gateway_upstream_errors", &[], &env).ended(ends);
    let state = redis.ask(&["HGET", KEY, "state"]);
    (bench, state)
}

#[test]
fn a_sick_upstream_is_recreated_behind_an_open_breaker() {
    let port = "redis-cli -p $(ls @dir@/redis-*.log | grep -o '[0-9]*[.]log' | grep -o '[0-9]*')";
    let look = format!("*' up '*) {port} HGET {KEY} state > @dir@/meanwhile; touch @dir@/up ;;");
    let (bench, state) = upstream_errors(&look, "succeeded");
    assert_eq!(state, "CLOSED");
    assert_eq!(fs::read_to_string(bench.path("meanwhile")).unwrap(), "OPEN\n");
}

#[test]
fn an_upstream_that_stays_sick_leaves_the_breaker_as_it_was() {
    assert_eq!(upstream_errors("", "rolled_back").1, "HALF_OPEN");
}

/// A redis that is too full of buckets, one breaker among them.
fn full_redis(bench: &Bench) -> Redis {
    fs::create_dir(bench.path("redis")).unwrap();
    let redis = Redis::start(&bench.path("redis"));
    let fill = "for i = 1, 400 do redis.call('HSET', 'rate_limit:10.0.0.' .. i, 'tokens', string.rep('x', 8000)) end";
    redis.ask(&["EVAL", fill, "0"]);
    redis.ask(&["HSET", KEY, "state", "CLOSED"]);
    redis.ask(&["CONFIG", "SET", "maxmemory", "5000000"]);
    redis
}

#[test]
fn a_full_redis_gets_more_room_and_keeps_what_it_has() {
    let bench = Bench::new(None);
    bench.put("gateway_redis_memory", &shipped("gateway_redis_memory"));
    let redis = full_redis(&bench);
    let ran =
        bench.execute("gateway_redis_memory", &[], &[("REDIS_PORT", redis.port()), ("RAISE_TO", "20000000")]);
    ran.ended("succeeded");
    assert_eq!(redis.ask(&["CONFIG", "GET", "maxmemory"]), "maxmemory\n20000000");
    assert_eq!(redis.ask(&["DBSIZE"]), "401");
    assert!(redis.ask(&["TTL", "rate_limit:10.0.0.7"]).parse::<u32>().unwrap() > 3000);
    assert_eq!(redis.ask(&["TTL", KEY]), "-1", "the breaker is no bucket");
}

#[test]
fn buckets_go_only_when_somebody_consents_and_breakers_never() {
    let bench = Bench::new(None);
    let redis = full_redis(&bench);
    let desk = Desk::open("", &[("gateway_redis_memory", &shipped("gateway_redis_memory"))]);
    let id = desk.execute("gateway_redis_memory", json!({}), json!({ "REDIS_PORT": redis.port() }));
    desk.answer(&id, "approve");
    desk.ended(&id, "succeeded");
    assert_eq!(redis.ask(&["KEYS", "*"]), KEY);
}

#[test]
fn a_limit_that_did_not_help_is_taken_back() {
    let bench = Bench::new(None);
    let redis = full_redis(&bench);
    // Full of what is no bucket, so deleting those helps nothing.
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    redis.ask(&[
        "EVAL",
        "for i = 1, 400 do redis.call('SET', 'other:' .. i, string.rep('x', 9000)) end",
        "0",
    ]);
    redis.ask(&["CONFIG", "SET", "maxmemory", "4000000"]);
    let desk = Desk::open("", &[("gateway_redis_memory", &shipped("gateway_redis_memory"))]);
    let env = json!({ "REDIS_PORT": redis.port(), "RAISE_TO": "4500000" });
    let id = desk.execute("gateway_redis_memory", json!({}), env);
    desk.answer(&id, "approve");
    desk.ended(&id, "rolled_back");
    assert_eq!(redis.ask(&["CONFIG", "GET", "maxmemory"]), "maxmemory\n4000000");
}

fn scale_out(most: u32, ends: &str) -> String {
    let bench = Bench::new(None);
    bench.put("gateway_scale_out", &shortened("gateway_scale_out", &[("2s", "100ms"), ("10s", "200ms")]));
    fs::create_dir(bench.path("project")).unwrap();
    fs::write(bench.path("count"), "1").unwrap();
    let gateway = Service::start(|_, _, _| (200, String::new()));
    // Runs as many as it is told, but no more than `most`.
    let compose = bench.compose(&format!(
        "*' ps '*) seq \"$(cat @dir@/count)\" ;;\n\
         *' up '*) n=${{*##*=}}; n=${{n%% *}}; [ \"$n\" -le {most} ] || n={most}; echo \"$n\" > @dir@/count ;;"
    ));
    let (project, address) = (bench.text("project"), gateway.address());
    let env = [("COMPOSE", compose.as_str()), ("PROJECT_DIR", &project), ("GATEWAY", &address)];
    bench.execute("gateway_scale_out", &[], &env).ended(ends);
    fs::read_to_string(bench.path("count")).unwrap().trim().to_owned()
}

#[test]
fn a_gateway_is_scaled_out_or_left_with_as_many_as_before() {
    assert_eq!(scale_out(9, "succeeded"), "3");
    assert_eq!(scale_out(2, "rolled_back"), "1");
}

#[test]
fn the_daily_checks_look_at_everything_and_tell_what_is_amiss() {
    let bench = Bench::new(None);
    bench.put("gateway_daily_checks", &shipped("gateway_daily_checks"));
    fs::create_dir(bench.path("redis")).unwrap();
    let redis = Redis::start(&bench.path("redis"));
    let gateway = Service::start(|_, _, _| (200, String::new()));
    let compose = bench.compose("*' ps '*) echo 1234 ;;\n*' logs '*) cat @dir@/log ;;");
    fs::write(bench.path("log"), "INFO all is well\n").unwrap();
    let (project, address) = (bench.text("redis"), gateway.address());
    let env = [
        ("COMPOSE", compose.as_str()),
        ("PROJECT_DIR", &project),
        ("GATEWAY", &address),
        ("REDIS_PORT", redis.port()),
        ("LIMIT_PERCENT", "99"),
        ("MOST_ERRORS", "1"),
    ];
    bench.execute("gateway_daily_checks", &[], &env).ended("succeeded");
    redis.ask(&["HSET", KEY, "state", "OPEN"]);
    fs::write(bench.path("log"), "ERROR one\nTraceback two\n").unwrap();
    let ran = bench.execute("gateway_daily_checks", &[], &env);
    ran.ended("failed");
    assert!(ran.out.contains("the breaker is OPEN") && ran.out.contains("2 lines of errors"), "{}", ran.out);
}
