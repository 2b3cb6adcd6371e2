//! The runbook of the database, with a real PostgreSQL.

use super::{Bench, Ran, shortened};
use crate::support::postgres::{Postgres, Session};
use crate::support::process::eventually;
use std::time::Duration;

const CONNECTIONS: u32 = 10;

/// A server whose connections are taken by sessions that have said `statements`.
fn crowded(statements: &str, state: &str) -> (Postgres, Vec<Session>) {
    let postgres = Postgres::start(CONNECTIONS);
    let sessions = (0..CONNECTIONS - 1).map(|_| postgres.session(statements)).collect();
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE state = '{state}'");
    eventually("the sessions", Duration::from_secs(30), || {
        (postgres.ask(&count) == (CONNECTIONS - 1).to_string()).then_some(())
    });
    (postgres, sessions)
}

fn execute(port: &str) -> Ran {
    let bench = Bench::new(None);
    let id = "db_performance_degradation";
    bench.put(id, &shortened(id, &[("2s", "200ms"), ("10s", "400ms")]));
    let env = [
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", port),
        ("PGUSER", "postgres"),
        ("PGDATABASE", "postgres"),
        ("SLOW_SECONDS", "0"),
        ("IDLE_SECONDS", "1"),
    ];
    bench.execute(id, &[], &env)
}

const SETTINGS: &str =
    "SELECT coalesce(string_agg(array_to_string(setconfig, ','), ','), '') FROM pg_db_role_setting";

#[test]
fn sessions_that_hold_transactions_are_ended_and_kept_from_coming_back() {
    let (postgres, sessions) = crowded("BEGIN; SELECT 1;", "idle in transaction");
    let held = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND now() - state_change > '1s'";
    eventually("transactions that are held for long", Duration::from_secs(30), || {
        (postgres.ask(held) == (CONNECTIONS - 1).to_string()).then_some(())
    });
    execute(postgres.port()).ended("succeeded");
    assert_eq!(postgres.ask(SETTINGS), "idle_in_transaction_session_timeout=1s");
    drop(sessions);
}

#[test]
fn statements_that_run_too_long_are_cancelled() {
    let postgres = Postgres::start(CONNECTIONS);
    let _session = postgres.session("SELECT pg_sleep(1000);");
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(1000)%' AND pid <> pg_backend_pid()";
    eventually("the statement", Duration::from_secs(30), || (postgres.ask(sleeps) == "1").then_some(()));
    execute(postgres.port()).ended("succeeded");
    assert_eq!(postgres.ask(sleeps), "0");
    assert_eq!(postgres.ask(SETTINGS), "", "with connections left nothing is limited");
}

#[test]
fn a_limit_that_did_not_help_is_what_it_was() {
    // They hold no transaction, so nothing may end them.
    let (postgres, _sessions) = crowded("SELECT 1;", "idle");
    postgres.ask("ALTER DATABASE postgres SET idle_in_transaction_session_timeout = '10min'");
    execute(postgres.port()).ended("rolled_back");
    assert_eq!(postgres.ask(SETTINGS), "idle_in_transaction_session_timeout=10min");
}

#[test]
fn a_database_that_does_not_answer_is_left_alone() {
    let ran = execute(&crate::support::redis::free_port());
    ran.ended("failed");
    assert!(ran.err.contains("==> cancel_slow: skipped"), "{}", ran.err);
}
