//! Which addresses a templated host may be reached at: the one question to the resolver, put to the allow-list.
//!
//! May import: `outgoing`. Must never: connect, or give an address that the list does not allow.

use super::OutgoingPolicy;
use std::net::IpAddr;

/// The addresses that `host` has now, when every one of them is allowed; `None` for an allowed address itself.
/// `what` names the host in the refusal, such as `the url's authority`.
pub(super) async fn allowed(
    policy: &OutgoingPolicy,
    host: &str,
    port: u16,
    what: &str,
) -> Result<Option<Vec<IpAddr>>, String> {
    let refused = |address: &str| {
        format!("{host}:{port}{address} is not in [outgoing] allow, and {what} comes from a template")
    };
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return if policy.allows_address(address, port, false) { Ok(None) } else { Err(refused("")) };
    }
    let by_name = policy.allows_name(host, port);
    let found = tokio::net::lookup_host((host, port))
        .await
        .map_err(|cause| format!("the host {host} could not be looked up: {cause}"))?;
    let addresses: Vec<IpAddr> = found.map(|socket| socket.ip()).collect();
    if let Some(bad) = addresses.iter().find(|address| !policy.allows_address(**address, port, by_name)) {
        return Err(refused(&format!(" ({bad})")));
    }
    if addresses.is_empty() {
        return Err(format!("the host {host} has no address"));
    }
    Ok(Some(addresses))
}
