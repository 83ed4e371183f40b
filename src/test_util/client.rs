//! Which client sent a request, and whether it proved it.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::header::AUTHORIZATION;

use super::{Shared, answer::Refusal, builder::Config, recorded::RecordedRequest};

pub(super) type Check = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A registered client, by how it authenticates.
pub(super) enum Client {
    Secret(String),
    RawBasic(String),
    Assertion(Check),
    Tls,
    Public,
}

/// The client that sent a request.
#[derive(Clone, Debug)]
pub(super) struct Authenticated {
    pub(super) id: String,
    pub(super) public: bool,
}

/// Judges the client authentication; `None` if the request names no client at all.
///
/// It is called without the lock, since the check of an assertion is the user's code. An assertion is spent
/// here, whatever becomes of the request, as a server does that stores its `jti`.
pub(super) fn authenticate(
    shared: &Shared,
    request: &RecordedRequest,
) -> Result<Option<Authenticated>, Refusal> {
    let config = &shared.config;
    let header = authorization(request)?;
    let client_id = request.get("client_id");
    // An empty secret is one that was sent: it may be omitted (RFC 6749 §2.3.1), and it proves nothing.
    let secret = request.get("client_secret");
    let assertion = request.get("client_assertion");
    let assertion_type = request.get("client_assertion_type");

    // "The client MUST NOT use more than one authentication method in each request." (RFC 6749 §2.3)
    let methods = [
        header.is_some(),
        secret.is_some(),
        assertion.is_some() || assertion_type.is_some(),
    ];
    if methods.iter().filter(|used| **used).count() > 1 {
        return Err(Refusal::invalid_request(
            "more than one way of client authentication",
        ));
    }

    let id = if let Some(header) = header {
        by_basic(config, header, client_id)?
    } else if let (Some(assertion), Some(assertion_type)) = (assertion, assertion_type) {
        let id = by_assertion(config, assertion, assertion_type, client_id)?;
        spend(shared, assertion)?;
        id
    } else if assertion.is_some() || assertion_type.is_some() {
        return Err(Refusal::invalid_request(
            "client_assertion and client_assertion_type come together",
        ));
    } else if let Some(secret) = secret {
        let id = client_id.ok_or(Refusal::invalid_request("client_secret without client_id"))?;
        by_post(config, id, secret)?
    } else if let Some(id) = client_id {
        by_id(config, id)?
    } else {
        return Ok(None);
    };
    let public = matches!(config.clients.get(&id), Some(Client::Public));
    Ok(Some(Authenticated { id, public }))
}

fn authorization(request: &RecordedRequest) -> Result<Option<&str>, Refusal> {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Refusal::invalid_request(
            "more than one Authorization header",
        ));
    }
    first
        .map(|value| {
            value
                .to_str()
                .map_err(|_| Refusal::invalid_client(true, "unreadable Authorization"))
        })
        .transpose()
}

fn by_basic(config: &Config, header: &str, client_id: Option<&str>) -> Result<String, Refusal> {
    let refused = |why| Refusal::invalid_client(true, why);
    let (scheme, credentials) = header
        .split_once(' ')
        .ok_or_else(|| refused("no credentials in Authorization"))?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(refused("the scheme of Authorization is not Basic"));
    }
    let decoded = STANDARD
        .decode(credentials)
        .map_err(|_| refused("Basic is not base64"))?;
    let decoded = String::from_utf8(decoded).map_err(|_| refused("Basic is not UTF-8"))?;
    let (raw_id, raw_secret) = decoded
        .split_once(':')
        .ok_or_else(|| refused("Basic has no colon"))?;

    let id = match config.clients.get(raw_id) {
        Some(Client::RawBasic(secret)) if secret == raw_secret => raw_id.to_owned(),
        Some(Client::RawBasic(_)) => return Err(refused("the secret is not that of the client")),
        _ => {
            let id = form_decode(raw_id).ok_or_else(|| refused("the id is not form-encoded"))?;
            let sent =
                form_decode(raw_secret).ok_or_else(|| refused("the secret is not form-encoded"))?;
            match config.clients.get(&id) {
                Some(Client::Secret(secret)) if *secret == sent => id,
                Some(Client::Secret(_)) => {
                    return Err(refused("the secret is not that of the client"));
                }
                Some(_) => return Err(refused("the client does not authenticate by Basic")),
                None => return Err(refused("there is no such client")),
            }
        }
    };
    if client_id.is_some_and(|other| other != id) {
        return Err(Refusal::invalid_request(
            "client_id is not the client of Authorization",
        ));
    }
    Ok(id)
}

fn by_post(config: &Config, id: &str, sent: &str) -> Result<String, Refusal> {
    match config.clients.get(id) {
        Some(Client::Secret(secret)) if secret == sent => Ok(id.to_owned()),
        Some(Client::Secret(_)) => Err(Refusal::invalid_client(
            false,
            "the secret is not that of the client",
        )),
        Some(_) => Err(Refusal::invalid_client(
            false,
            "the client does not send a secret here",
        )),
        None => Err(Refusal::invalid_client(false, "there is no such client")),
    }
}

fn by_assertion(
    config: &Config,
    assertion: &str,
    assertion_type: &str,
    client_id: Option<&str>,
) -> Result<String, Refusal> {
    if !matches!(
        assertion_type,
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            | "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"
    ) {
        return Err(Refusal::invalid_client(
            false,
            "unknown client_assertion_type",
        ));
    }
    // `client_id` is "unnecessary for client assertion authentication" (RFC 7521 §4.2).
    config
        .clients
        .iter()
        .filter(|(id, _)| client_id.is_none_or(|named| named == *id))
        .find_map(|(id, client)| match client {
            Client::Assertion(check) if check(assertion) => Some(id.clone()),
            _ => None,
        })
        .ok_or(Refusal::invalid_client(
            false,
            "the client assertion is not accepted",
        ))
}

fn spend(shared: &Shared, assertion: &str) -> Result<(), Refusal> {
    let is_new = shared.lock().seen_assertions.insert(assertion.to_owned());
    if shared.config.refuse_replayed_assertions && !is_new {
        return Err(Refusal::invalid_client(
            false,
            "the client assertion was used before",
        ));
    }
    Ok(())
}

fn by_id(config: &Config, id: &str) -> Result<String, Refusal> {
    match config.clients.get(id) {
        Some(Client::Public | Client::Tls) => Ok(id.to_owned()),
        Some(Client::Secret(secret)) if secret.is_empty() => Ok(id.to_owned()),
        Some(_) => Err(Refusal::invalid_client(
            false,
            "the client did not authenticate",
        )),
        None => Err(Refusal::invalid_client(false, "there is no such client")),
    }
}

/// Decodes `application/x-www-form-urlencoded` (RFC 6749 appendix B), and takes only what an encoder can
/// have written: a lenient decoder would hide a client that does not encode.
fn form_decode(encoded: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            b'*' | b'-' | b'.' | b'_' | b'~' => byte,
            _ if byte.is_ascii_alphanumeric() => byte,
            _ => return None,
        });
    }
    String::from_utf8(decoded).ok()
}
