//! Tests of `identity`.

use super::*;
use crate::auth::{Failure, Handle, Permissions, Principal, Roles, Stored as _, Via};
use crate::model::{ManualClock, Secret};
use crate::store::MemoryStore;
use crate::telemetry::Build;
use serde_json::Map;
use std::net::{IpAddr, Ipv4Addr};

const PASSWORD: &str = "correct horse battery";
const HOUR: Duration = Duration::from_secs(3600);

struct Site {
    identity: Identity,
    clock: Arc<ManualClock>,
}

fn accounts() -> Accounts {
    let hash = PasswordHash::make(&Secret::new(PASSWORD), [3; 16]).unwrap();
    let hash = PasswordHash::parse(&hash).unwrap();
    let ada = User { hash, roles: vec!["operator".to_owned()] };
    Accounts {
        users: [("ada".to_owned(), ada)].into(),
        signup: true,
        session_idle: HOUR,
        session_max: 3 * HOUR,
        dev: None,
    }
}

fn site() -> Site {
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_790_000_000).unwrap()));
    let metrics = Metrics::new(&Build { version: "1", revision: "r" }, clock.now());
    let parts = Parts {
        records: Records::new(Arc::new(MemoryStore::new())),
        clock: Arc::clone(&clock) as _,
        metrics,
        is_runbook: Box::new(|id| id.as_str() == "known"),
    };
    Site { identity: Identity::new(parts, accounts()), clock }
}

impl Site {
    async fn login(&self, name: &str, password: &str) -> Result<SignedIn, LoginError> {
        self.identity.login(name, &Secret::new(password), from(1)).await
    }

    /// Whose a credential is, which uses it.
    async fn holder(&self, token: &Secret) -> Result<String, Failure> {
        let handle = Handle::parse(token.expose()).unwrap();
        let holder = self.identity.holder(&handle, self.clock.now()).await?;
        self.identity.used(&handle, self.clock.now());
        Ok(holder.subject)
    }

    fn wait(&self, seconds: i64) {
        self.clock.advance(seconds * 1000);
    }
}

fn from(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number).into()
}

fn principal(subject: &str, role: &str) -> Principal {
    let roles = vec![role.to_owned()];
    let permissions: Permissions = Roles::default().permissions(&roles);
    Principal { subject: subject.to_owned(), roles, permissions, claims: Map::new(), via: Via::Token }
}

#[tokio::test]
async fn t21_a_name_nobody_has_costs_the_same_work_as_a_wrong_password() {
    let site = site();
    let work = |before: u64| site.identity.comparisons() - before;
    for (name, password) in [
        ("ada", "a wrong password"),
        ("nobody", "a wrong password"),
        ("", ""),
        ("ADA", PASSWORD),
        ("signup:ada", PASSWORD),
        ("ada", &"x".repeat(10_000)),
    ] {
        let before = site.identity.comparisons();
        assert!(matches!(site.login(name, password).await, Err(LoginError::Wrong)), "{name}");
        assert_eq!(work(before), 1, "{name}");
        site.wait(60);
    }
    let before = site.identity.comparisons();
    site.login("ada", PASSWORD).await.unwrap();
    assert_eq!(work(before), 1);
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used_and_in_any_case_at_its_end() {
    let site = site();
    let idle = site.login("ada", PASSWORD).await.unwrap().token;
    site.wait(3599);
    assert_eq!(site.holder(&idle).await.as_deref(), Ok("ada"));
    site.wait(3600);
    assert_eq!(site.holder(&idle).await, Err(Failure::Expired));
    let busy = site.login("ada", PASSWORD).await.unwrap().token;
    for _ in 0..5 {
        site.wait(1800);
        assert_eq!(site.holder(&busy).await.as_deref(), Ok("ada"));
        // Written down or only remembered, a use counts.
        site.identity.write_down().await;
    }
    site.wait(1800);
    assert_eq!(site.holder(&busy).await, Err(Failure::Expired), "three hours are over");
    site.identity.sweep_sessions().await;
    assert_eq!(site.holder(&busy).await, Err(Failure::Credential), "and it is swept");
}

#[tokio::test]
async fn uses_are_written_down_together_and_survive() {
    let site = site();
    let who = principal("ada", "viewer");
    let wish = NewKey { name: "k".into(), roles: vec!["viewer".into()], expires_in: None };
    let (record, key) = site.identity.make_key(&who, wish).await.unwrap();
    assert_eq!(record.last_used, None);
    site.wait(10);
    assert_eq!(site.holder(&key).await.as_deref(), Ok("ada"));
    let stored = || async { site.identity.records().api_key(&record.id).await.unwrap().unwrap().last_used };
    assert_eq!(stored().await, None, "no commit for a request");
    let listed = site.identity.keys(&who, None, 10).await.unwrap();
    assert_eq!(listed.items[0].last_used, Some(site.clock.now()));
    site.identity.write_down().await;
    assert_eq!(stored().await, Some(site.clock.now()));
    // One that was revoked while its use was remembered does not come back.
    assert_eq!(site.holder(&key).await.as_deref(), Ok("ada"));
    site.identity.revoke_key(&who, &record.id).await.unwrap();
    site.identity.write_down().await;
    assert_eq!(site.holder(&key).await, Err(Failure::Credential));
}

#[tokio::test]
async fn the_oldest_of_too_many_sessions_ends_and_too_many_keys_are_refused() {
    let site = site();
    let mut tokens = Vec::new();
    for _ in 0..21 {
        tokens.push(site.login("ada", PASSWORD).await.unwrap().token);
        site.wait(1);
    }
    assert_eq!(site.holder(&tokens[0]).await, Err(Failure::Credential));
    assert_eq!(site.holder(&tokens[1]).await.as_deref(), Ok("ada"));
    let who = principal("bob", "viewer");
    let wish = || NewKey { name: "k".into(), roles: vec!["viewer".into()], expires_in: Some(HOUR) };
    for _ in 0..100 {
        site.identity.make_key(&who, wish()).await.unwrap();
    }
    assert!(matches!(site.identity.make_key(&who, wish()).await, Err(KeyError::TooMany)));
    site.identity.make_key(&principal("carol", "viewer"), wish()).await.unwrap();
    site.wait(3601);
    site.identity.make_key(&who, wish()).await.expect("expired ones make room");
}

#[tokio::test]
async fn refusals_are_kept_for_runbooks_that_exist_and_not_without_end() {
    let site = site();
    let refusal = |runbook: &str| Refusal {
        runbook: RunbookId::new(runbook).unwrap(),
        operation: "execute",
        user: "eve".into(),
        roles: vec!["viewer".into()],
        client: from(1),
        request_id: "r".into(),
        execution: None,
        why: "x".repeat(5000),
    };
    site.identity.refused(refusal("unknown"));
    for _ in 0..300 {
        for _ in 0..40 {
            site.identity.refused(refusal("known"));
        }
        site.identity.write_down().await;
        site.wait(1);
    }
    let known = RunbookId::new("known").unwrap();
    let kept = site.identity.records().refusals(&known, None, 500).await.unwrap();
    assert_eq!(kept.items.len(), 100);
    assert!(kept.items[0].why.len() <= 300);
    let unknown = RunbookId::new("unknown").unwrap();
    assert!(site.identity.records().refusals(&unknown, None, 500).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn failed_sign_ins_do_not_fill_the_audit_log() {
    let site = site();
    for n in 0..60 {
        let tried = site.identity.login("nobody", &Secret::new("x"), from(n)).await;
        assert!(matches!(tried, Err(LoginError::Wrong)));
    }
    site.wait(10);
    let tried = site.identity.login("nobody", &Secret::new("x"), from(1000)).await;
    assert!(matches!(tried, Err(LoginError::Wrong)));
    let page = site.identity.records().audit(&Default::default(), None, 500).await.unwrap();
    assert_eq!(page.items.len(), 31);
    assert_eq!(page.items[0].detail["passed_over"], "30");
}
