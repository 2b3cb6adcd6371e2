//! Backups and restores, with a real redis and real archives.

use super::{Bench, Desk, shipped};
use crate::support::process::eventually;
use crate::support::redis::{Redis, Supervisor, ask, free_port};
use crate::support::service::Service;
use serde_json::json;
use std::fs;
use std::time::Duration;

fn names(bench: &Bench, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(bench.path(dir)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn with_redis() -> (Bench, Redis) {
    let bench = Bench::new(None);
    bench.put("gateway_redis_backup", &shipped("gateway_redis_backup"));
    for dir in ["redis", "backups"] {
        fs::create_dir(bench.path(dir)).unwrap();
    }
    let redis = Redis::start(&bench.path("redis"));
    redis.ask(&["SET", "kept", "1"]);
    (bench, redis)
}

#[test]
fn redis_is_backed_up_and_old_backups_go() {
    let (bench, redis) = with_redis();
    let old = bench.path("backups/redis-old.rdb");
    fs::write(&old, "old").unwrap();
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    let dir = bench.text("backups");
    let env = [("REDIS_PORT", redis.port()), ("BACKUP_DIR", dir.as_str())];
    bench.execute("gateway_redis_backup", &[], &env).ended("succeeded");
    let names = names(&bench, "backups");
    assert!(
        matches!(&names[..], [rdb, sum] if rdb.ends_with(".rdb") && *sum == format!("{rdb}.sha256")),
        "{names:?}"
    );
}

#[test]
fn without_a_directory_redis_is_not_asked_for_a_backup() {
    let (bench, redis) = with_redis();
    let dir = bench.text("missing");
    bench
        .execute("gateway_redis_backup", &[], &[("REDIS_PORT", redis.port()), ("BACKUP_DIR", &dir)])
        .ended("failed");
}

#[test]
fn a_backup_that_redis_refuses_leaves_nothing_behind() {
    let (bench, redis) = with_redis();
    redis.ask(&["ACL", "SETUSER", "default", "-sync", "-psync"]);
    let dir = bench.text("backups");
    let ran =
        bench.execute("gateway_redis_backup", &[], &[("REDIS_PORT", redis.port()), ("BACKUP_DIR", &dir)]);
    ran.ended("rolled_back");
    assert!(names(&bench, "backups").is_empty());
}

#[test]
fn a_project_is_packed_and_what_cannot_be_packed_leaves_nothing_behind() {
    let bench = Bench::new(None);
    bench.put("gateway_app_backup", &shipped("gateway_app_backup"));
    for dir in ["project", "backups"] {
        fs::create_dir(bench.path(dir)).unwrap();
    }
    fs::write(bench.path("project/compose.yaml"), "services: {}\n").unwrap();
    let (project, dir, missing) = (bench.text("project"), bench.text("backups"), bench.text("missing"));
    let execute = |project: &str| {
        bench.execute("gateway_app_backup", &[], &[("PROJECT_DIR", project), ("BACKUP_DIR", &dir)])
    };
    execute(&missing).ended("rolled_back");
    assert!(names(&bench, "backups").is_empty());
    execute(&project).ended("succeeded");
    assert_eq!(names(&bench, "backups").len(), 2);
}

/// A compose project with a redis that keeps append-only files, and a backup of an earlier time.
struct Project {
    bench: Bench,
    port: String,
    file: String,
    compose: String,
    // Last, so that redis ends before its directory.
    _supervisor: Supervisor,
}

impl Project {
    fn new() -> Self {
        let (bench, earlier) = with_redis();
        earlier.ask(&["SET", "also", "2"]);
        let dir = bench.text("backups");
        let env = [("REDIS_PORT", earlier.port()), ("BACKUP_DIR", dir.as_str())];
        bench.execute("gateway_redis_backup", &[], &env).ended("succeeded");
        let file = names(&bench, "backups").into_iter().find(|name| name.ends_with(".rdb")).unwrap();
        drop(earlier);
        let port = free_port();
        fs::create_dir(bench.path("data-of-redis")).unwrap();
        fs::write(bench.path("wanted"), "up").unwrap();
        let supervisor = Supervisor::start(bench.dir.path(), bench.path("data-of-redis"), &port);
        // `fail` makes the next start fail.
        let compose = bench.compose(
            "*' stop '*redis*) echo down > @dir@/wanted; until grep -q down @dir@/state; do sleep 0.05; done ;;\n\
             *' up '*redis*) [ ! -e @dir@/fail ] || { rm @dir@/fail; exit 1; }\n\
               echo up > @dir@/wanted; until grep -q up @dir@/state; do sleep 0.05; done ;;",
        );
        let project = Self { bench, port, file, compose, _supervisor: supervisor };
        eventually("redis", Duration::from_secs(30), || ask(&project.port, &["PING"]));
        ask(&project.port, &["SET", "later", "3"]).unwrap();
        project
    }

    fn restore(&self, ends: &str) -> Vec<String> {
        let gateway = Service::start(|_, _, _| (200, String::new()));
        let desk = Desk::open("", &[("gateway_redis_restore", &shipped("gateway_redis_restore"))]);
        let env = json!({
            "COMPOSE": self.compose, "PROJECT_DIR": self.bench.text("backups"), "GATEWAY": gateway.address(),
            "REDIS_PORT": self.port, "BACKUP_DIR": self.bench.text("backups"),
            "DATA_DIR": self.bench.text("data-of-redis"), "FILE": self.file,
        });
        let id = desk.execute("gateway_redis_restore", json!({}), env);
        desk.answer(&id, "approve");
        desk.ended(&id, ends);
        let keys = ask(&self.port, &["KEYS", "*"]).unwrap();
        let mut keys: Vec<String> = keys.lines().map(str::to_owned).collect();
        keys.sort();
        keys
    }
}

#[test]
fn a_redis_with_append_only_files_is_restored() {
    let project = Project::new();
    assert_eq!(project.restore("succeeded"), ["also", "kept"]);
    // What was there is kept beside it.
    let kept = fs::read_dir(project.bench.dir.path())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    assert!(kept.into_iter().any(|name| name.starts_with("data-of-redis.") && name.ends_with(".old")));
}

#[test]
fn a_redis_that_does_not_start_with_its_backup_gets_back_what_it_had() {
    let project = Project::new();
    fs::write(project.bench.path("fail"), "").unwrap();
    assert_eq!(project.restore("rolled_back"), ["later"]);
}

#[test]
fn a_backup_that_was_changed_is_not_restored() {
    let project = Project::new();
    fs::write(project.bench.path("backups").join(&project.file), "REDIS0011 no backup").unwrap();
    let gateway = Service::start(|_, _, _| (200, String::new()));
    let bench = &project.bench;
    bench.put("gateway_redis_restore", &shipped("gateway_redis_restore"));
    let (backups, data, address) = (bench.text("backups"), bench.text("data-of-redis"), gateway.address());
    let env = [
        ("COMPOSE", project.compose.as_str()),
        ("PROJECT_DIR", &backups),
        ("GATEWAY", &address),
        ("REDIS_PORT", &project.port),
        ("BACKUP_DIR", &backups),
        ("DATA_DIR", &data),
        ("FILE", &project.file),
    ];
    bench.execute("gateway_redis_restore", &[], &env).ended("failed");
    assert_eq!(ask(&project.port, &["KEYS", "*"]).as_deref(), Some("later"));
    assert!(!bench.told().contains("stop"), "{}", bench.told());
}

/// Restores project and redis after both have changed; what compose.yaml says then, and the keys.
fn full_restore(fails: bool, ends: &str) -> (String, String) {
    let project = Project::new();
    let bench = &project.bench;
    bench.put("gateway_app_backup", &shipped("gateway_app_backup"));
    fs::create_dir(bench.path("project")).unwrap();
    fs::write(bench.path("project/compose.yaml"), "earlier").unwrap();
    let (dir, backups) = (bench.text("project"), bench.text("backups"));
    let env = [("PROJECT_DIR", dir.as_str()), ("BACKUP_DIR", &backups)];
    bench.execute("gateway_app_backup", &[], &env).ended("succeeded");
    let archive = names(bench, "backups").into_iter().find(|name| name.ends_with(".tar.gz")).unwrap();
    fs::write(bench.path("project/compose.yaml"), "later").unwrap();
    if fails {
        fs::write(bench.path("fail"), "").unwrap();
    }
    let gateway = Service::start(|_, _, _| (200, String::new()));
    let texts = ["gateway_full_restore", "gateway_redis_restore"].map(|id| (id, shipped(id)));
    let runbooks = texts.each_ref().map(|(id, text)| (*id, text.as_str()));
    let desk = Desk::open("", &runbooks);
    let env = json!({
        "COMPOSE": project.compose, "PROJECT_DIR": dir, "GATEWAY": gateway.address(), "REDIS_PORT": project.port,
        "BACKUP_DIR": backups, "DATA_DIR": bench.text("data-of-redis"), "APP_FILE": archive, "REDIS_FILE": project.file,
    });
    let id = desk.execute("gateway_full_restore", json!({}), env);
    desk.answer(&id, "approve");
    let child = eventually("the restore of redis", super::LIMIT, || {
        let list = desk.ask(
            &desk.bob,
            "GET",
            "/api/executions?runbook=gateway_redis_restore",
            &serde_json::Value::Null,
        );
        list["executions"][0]["id"].as_str().map(str::to_owned)
    });
    // Its mode asks, and its step does.
    desk.answer(&child, "approve");
    desk.answer(&child, "approve");
    desk.ended(&id, ends);
    let keys = ask(&project.port, &["KEYS", "later"]).unwrap();
    (fs::read_to_string(bench.path("project/compose.yaml")).unwrap(), keys)
}

#[test]
fn everything_is_restored_or_nothing() {
    assert_eq!(full_restore(false, "succeeded"), ("earlier".to_owned(), String::new()));
    assert_eq!(full_restore(true, "rolled_back"), ("later".to_owned(), "later".to_owned()));
}
