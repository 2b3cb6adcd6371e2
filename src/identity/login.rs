//! Signing in, up and out.
//!
//! A name nobody has costs the same work as a wrong password and gets the same answer. Tries are counted before they
//! are made. May import: `auth`, `store`. Must never: write down a name that no account has; it may be a password.

use super::lookup::SIGNUP_ROLE;
use super::{Accounts, Busy, Identity, entry, lock, new_id};
use crate::auth::{
    HandleKind, MAX_PASSWORD_BYTES, Minted, NoRandomness, PasswordError, PasswordHash, Principal,
    SIGNUP_PREFIX, Signer, Via, check_password, random,
};
use crate::model::{Secret, Timestamp, after, between};
use crate::store::records::identity::{self, Added, Origin, SessionRecord, UserRecord};
use crate::store::records::transact;
use crate::store::{CommitError, ReadError, Txn};
use crate::telemetry::AuthFailure;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::time::Duration;

/// How long a token of the development sign-in is good for.
const DEV_LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// What a name that is no account's is called in the records.
const UNKNOWN: &str = "(unknown)";

/// Somebody signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// The credential, for this one answer.
    pub token: Secret,
    /// Who.
    pub subject: String,
    /// What they may claim to be.
    pub roles: Vec<String>,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// Until then.
    pub left: Duration,
}

/// Why nobody signed in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There are no local users, or nobody may sign up.
    #[error("{0}")]
    Off(&'static str),
    /// Too many wrong ones from there.
    #[error("too many failed sign-ins; try it again later")]
    Limited(Duration),
    /// No such pair.
    #[error("the name or the password is wrong")]
    Wrong,
    /// Not a name or a password that could be taken.
    #[error("{message}")]
    Invalid {
        /// Which of them.
        path: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Somebody has this name.
    #[error("this name is taken")]
    Taken,
    /// More than there is room for.
    #[error("no more accounts can be made")]
    Full,
    /// Others are signing in.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// No credential could be drawn.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// An account could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be made durable.
    #[error(transparent)]
    Store(#[from] CommitError),
}

/// Somebody with a password.
struct Person {
    subject: String,
    origin: Origin,
    roles: Vec<String>,
}

/// Who a name and a password may be.
struct Candidate {
    hash: PasswordHash,
    /// Nobody, where the name is no account's.
    person: Option<Person>,
}

impl Identity {
    /// Signs in.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login(&self, name: &str, password: &Secret, from: IpAddr) -> Result<SignedIn, LoginError> {
        let accounts = self.accounts();
        if accounts.users.is_empty() && !accounts.signup {
            return Err(LoginError::Off("there are no local users here; use a token"));
        }
        self.try_now(from, name)?;
        match self.identify(&accounts, name, password).await {
            Ok((candidate, true)) => {
                lock(&self.0.limiter).forgive(from, name);
                let Candidate { hash, person: Some(person) } = candidate else {
                    return Err(LoginError::Wrong);
                };
                let (signed_in, record) = self.session(&accounts, person, &hash)?;
                let mut audited = entry(self.now(), &record.subject, "user.login", &record.id);
                audited.detail.insert("from".to_owned(), from.to_string());
                let work = move |txn: &mut dyn Txn| identity::add_session(txn, &record, audited.clone());
                transact(&**self.records().store(), work).await?;
                Ok(signed_in)
            }
            Ok((candidate, false)) => {
                let known = candidate.person.map(|person| person.subject);
                self.note_failure(known.as_deref(), from).await;
                Err(LoginError::Wrong)
            }
            Err(error) => {
                // Nothing was compared, so nothing was guessed.
                lock(&self.0.limiter).forgive(from, name);
                Err(error)
            }
        }
    }

    /// Makes an account that may read, and signs in.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn signup(&self, name: &str, password: &Secret, from: IpAddr) -> Result<SignedIn, LoginError> {
        let accounts = self.accounts();
        if !accounts.signup {
            return Err(LoginError::Off("nobody may sign up here"));
        }
        check_name(name)?;
        check_password(password.expose()).map_err(|error: PasswordError| LoginError::Invalid {
            path: "password",
            message: error.to_string(),
        })?;
        if password.expose().eq_ignore_ascii_case(name) {
            let message = "a password is not the name".to_owned();
            return Err(LoginError::Invalid { path: "password", message });
        }
        // Names that are taken can be found out here, so this counts as a try; it is not given back.
        self.try_now(from, "")?;
        if accounts.users.keys().any(|known| known.eq_ignore_ascii_case(name))
            || self.records().user(name).await?.is_some()
        {
            return Err(LoginError::Taken);
        }
        let (salt, password) = (random()?, password.clone());
        let hash = self.0.hasher.run(move || PasswordHash::make(&password, salt)).await?;
        let hash =
            hash.map_err(|error| LoginError::Invalid { path: "password", message: error.to_string() })?;
        let now = self.now();
        let user =
            UserRecord { name: name.to_owned(), password_hash: hash.expose().to_owned(), created_at: now };
        let hash = PasswordHash::parse(&hash);
        let hash =
            hash.map_err(|error| LoginError::Invalid { path: "password", message: error.to_string() })?;
        let (signed_in, session) = self.session(&accounts, signed_up(name), &hash)?;
        let mut audited = entry(now, &session.subject, "user.signup", name);
        audited.detail.insert("from".to_owned(), from.to_string());
        let work = move |txn: &mut dyn Txn| identity::add_user(txn, &user, &session, audited.clone());
        match transact(&**self.records().store(), work).await? {
            Added::Done => Ok(signed_in),
            Added::Taken => Err(LoginError::Taken),
            Added::Full => Err(LoginError::Full),
        }
    }

    /// Signs out: the session is worth nothing from now on. False where the caller came with something else.
    ///
    /// # Errors
    /// [`LoginError::Store`].
    pub async fn logout(&self, who: &Principal) -> Result<bool, LoginError> {
        let Via::Session(id) = who.via.clone() else { return Ok(false) };
        let audited = entry(self.now(), &who.subject, "user.logout", &id);
        let work = move |txn: &mut dyn Txn| identity::end_session(txn, &id, audited.clone());
        Ok(transact(&**self.records().store(), work).await?)
    }

    /// A token for whoever asks, where the config allows that.
    pub fn dev_token(&self, subject: &str, roles: &[String]) -> Option<(String, Timestamp)> {
        let accounts = self.accounts();
        let expires_at = after(self.now(), DEV_LIFETIME);
        let claims = accounts.dev.as_ref()?.claims(subject, roles, self.now(), expires_at);
        let token = accounts.dev.as_ref()?.signer.sign(&claims).ok()?;
        Some((token, expires_at))
    }

    /// How many passwords were compared, whoever they were said to be of.
    pub fn comparisons(&self) -> u64 {
        self.0.hasher.comparisons()
    }

    fn try_now(&self, from: IpAddr, name: &str) -> Result<(), LoginError> {
        let tried = lock(&self.0.limiter).try_now(from, name, self.now());
        tried.map_err(|wait| {
            self.0.parts.metrics.auth_failed(AuthFailure::RateLimited);
            LoginError::Limited(wait)
        })
    }

    async fn identify(
        &self,
        accounts: &Accounts,
        name: &str,
        password: &Secret,
    ) -> Result<(Candidate, bool), LoginError> {
        let candidate = self.candidate(accounts, name).await?;
        // As much as any password can be; the rest would only be work.
        let end = password.expose().floor_char_boundary(MAX_PASSWORD_BYTES + 1);
        let given = Secret::new(&password.expose()[..end]);
        let fits = self.0.hasher.compare(candidate.hash.clone(), given).await?;
        let fits = fits && candidate.person.is_some() && password.expose().len() <= MAX_PASSWORD_BYTES;
        Ok((candidate, fits))
    }

    async fn candidate(&self, accounts: &Accounts, name: &str) -> Result<Candidate, LoginError> {
        // Asked for every name, so that it takes no longer for some.
        let stored = if accounts.signup { self.records().user(name).await? } else { None };
        if let Some(user) = accounts.users.get(name) {
            let (subject, roles) = (name.to_owned(), user.roles.clone());
            let person = Some(Person { subject, origin: Origin::File, roles });
            return Ok(Candidate { hash: user.hash.clone(), person });
        }
        if let Some(user) = stored
            && let Ok(hash) = PasswordHash::parse(&Secret::new(&user.password_hash))
        {
            return Ok(Candidate { hash, person: Some(signed_up(&user.name)) });
        }
        let decoy = match accounts.users.values().next() {
            Some(user) => user.hash.decoy(),
            None => PasswordHash::usual_decoy().map_err(|_| LoginError::Wrong)?,
        };
        Ok(Candidate { hash: decoy, person: None })
    }

    fn session(
        &self,
        accounts: &Accounts,
        person: Person,
        hash: &PasswordHash,
    ) -> Result<(SignedIn, SessionRecord), LoginError> {
        let Person { subject, origin, roles } = person;
        let now = self.now();
        let id = new_id(now)?;
        let minted = Minted::new(HandleKind::Session, &id, random()?);
        let expires_at = after(now, accounts.session_max);
        let record = SessionRecord {
            id,
            subject: subject.clone(),
            origin,
            digest: minted.digest.encoded(),
            password: hash.mark(),
            created_at: now,
            expires_at,
            last_used: now,
        };
        let left = between(now, expires_at);
        Ok((SignedIn { token: minted.text, subject, roles, expires_at, left }, record))
    }

    /// One that failed is counted and logged, and stands in the audit log as long as there are not too many.
    async fn note_failure(&self, known: Option<&str>, from: IpAddr) {
        self.0.parts.metrics.auth_failed(AuthFailure::Invalid);
        let (user, now) = (known.unwrap_or(UNKNOWN), self.now());
        let passed_over = {
            let mut noted = lock(&self.0.noted);
            let (allowances, passed_over) = &mut *noted;
            if allowances.take(&(), now).is_err() {
                *passed_over += 1;
                return;
            }
            std::mem::take(passed_over)
        };
        tracing::warn!(user, client = %from, passed_over, "sign-in failed");
        let mut audited = entry(now, user, "user.login_failed", user);
        audited.detail = [("from", from.to_string()), ("passed_over", passed_over.to_string())]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        let work =
            move |txn: &mut dyn Txn| crate::store::records::audit::append(txn, audited.clone()).map(drop);
        if let Err(error) = transact(&**self.records().store(), work).await {
            tracing::error!(%error, "a failed sign-in is missing in the audit log");
        }
    }
}

/// Somebody with an account of their own making. The prefix keeps them apart from everybody who is vouched for.
fn signed_up(name: &str) -> Person {
    Person {
        subject: format!("{SIGNUP_PREFIX}{name}"),
        origin: Origin::Signup,
        roles: vec![SIGNUP_ROLE.to_owned()],
    }
}

/// A name that can be told apart from others by eye, and typed.
fn check_name(name: &str) -> Result<(), LoginError> {
    let fits = (2..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    if fits {
        return Ok(());
    }
    let message = "a name has 2 to 64 of a-z 0-9 . _ -, and begins with a letter or a digit".to_owned();
    Err(LoginError::Invalid { path: "username", message })
}

/// Makes tokens that this server accepts.
#[derive(Debug)]
pub struct DevIssuer {
    /// With the key that tokens are checked with.
    pub signer: Signer,
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// The claim that holds the roles.
    pub roles_claim: String,
}

impl DevIssuer {
    fn claims(
        &self,
        subject: &str,
        roles: &[String],
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Map<String, Value> {
        let claims = json!({
            "sub": subject, "iss": self.issuer, "aud": self.audience,
            "iat": now.as_second(), "exp": expires_at.as_second(),
        });
        let mut claims = claims.as_object().cloned().unwrap_or_default();
        claims.insert(self.roles_claim.clone(), roles.into());
        claims
    }
}
