//! Which addresses a templated host may be reached at: the one question to the resolver, put to the allow-list.
//!
//! May import: `outgoing`. Must never: connect, or give an address that the list does not allow.

use super::OutgoingPolicy;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::fmt;
use std::io;
use std::net::IpAddr;

/// Who knows the addresses of names. What it answers the first time is what counts.
pub(super) trait Names: fmt::Debug + Send + Sync {
    /// The addresses `host` has now.
    fn look_up(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the system.
#[derive(Debug)]
pub(super) struct SystemNames;

impl Names for SystemNames {
    fn look_up(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        async move {
            let found = tokio::net::lookup_host((host.as_str(), port)).await?;
            Ok(found.map(|socket| socket.ip()).collect())
        }
        .boxed()
    }
}

/// The addresses that `host` has now, when every one of them is allowed; `None` for an allowed address itself.
/// `what` names the host in the refusal, such as `the url's authority`.
pub(super) async fn allowed(
    names: &dyn Names,
    policy: &OutgoingPolicy,
    host: &str,
    port: u16,
    what: &str,
) -> Result<Option<Vec<IpAddr>>, String> {
    let refused = |address: &str| {
        format!("{host}:{port}{address} is not in [outgoing] allow, and {what} comes from a template")
    };
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return if policy.allows_address(address, port, None) { Ok(None) } else { Err(refused("")) };
    }
    let name = policy.allows_name(host, port).then_some(host);
    let addresses = names
        .look_up(host.to_owned(), port)
        .await
        .map_err(|cause| format!("the host {host} could not be looked up: {cause}"))?;
    if let Some(bad) = addresses.iter().find(|address| !policy.allows_address(**address, port, name)) {
        return Err(refused(&format!(" ({bad})")));
    }
    if addresses.is_empty() {
        return Err(format!("the host {host} has no address"));
    }
    Ok(Some(addresses))
}
