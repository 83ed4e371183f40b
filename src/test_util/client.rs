//! Client authentication: which client sent a request, and whether it proved its identity.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::header::AUTHORIZATION;

#[cfg(feature = "jwt")]
use super::client_assertion::RegisteredKey;
use super::{Core, answer::OAuthError, builder::Config, recorded::RecordedRequest};

pub(super) type AssertionCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A registered client, by its authentication method.
pub(super) enum Client {
    Secret(String),
    RawBasic(String),
    Assertion(AssertionCheck),
    #[cfg(feature = "jwt")]
    PrivateKey(RegisteredKey),
    Tls,
    Public,
}

/// The client that sent a request.
#[derive(Clone, Debug)]
pub(super) struct Authenticated {
    pub(super) id: String,
    pub(super) public: bool,
}

/// Checks the client authentication. Returns `None` if the request does not identify a client.
///
/// It is called without holding the lock, because the check of an assertion is the user's code. The assertion counts
/// as used from here on, whatever happens to the request, as with a server that stores its `jti`.
pub(super) fn authenticate(
    core: &Core,
    request: &RecordedRequest,
) -> Result<Option<Authenticated>, OAuthError> {
    let config = &core.config;
    let header = authorization(request)?;
    let client_id = request.get("client_id");
    // `get` treats an empty secret as not sent: it may be omitted (RFC 6749 §2.3.1), and it proves nothing.
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
        return Err(OAuthError::invalid_request(
            "more than one client authentication method",
        ));
    }

    let id = if let Some(header) = header {
        by_basic(config, header, client_id)?
    } else if let (Some(assertion), Some(assertion_type)) = (assertion, assertion_type) {
        #[cfg(feature = "jwt")]
        if let Some(id) = by_private_key(core, request, assertion, assertion_type)? {
            return Ok(Some(Authenticated { id, public: false }));
        }
        let id = by_assertion(config, assertion, assertion_type, client_id)?;
        reject_if_used(core, assertion)?;
        id
    } else if assertion.is_some() || assertion_type.is_some() {
        return Err(OAuthError::invalid_request(
            "client_assertion and client_assertion_type must be sent together",
        ));
    } else if let Some(secret) = secret {
        let id = client_id.ok_or(OAuthError::invalid_request(
            "client_secret without client_id",
        ))?;
        by_post(config, id, secret)?
    } else if let Some(id) = client_id {
        by_id(config, id)?
    } else {
        return Ok(None);
    };
    let public = matches!(config.clients.get(&id), Some(Client::Public));
    Ok(Some(Authenticated { id, public }))
}

fn authorization(request: &RecordedRequest) -> Result<Option<&str>, OAuthError> {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(OAuthError::invalid_request(
            "more than one Authorization header",
        ));
    }
    first
        .map(|value| {
            value.to_str().map_err(|_| {
                OAuthError::invalid_client(true, "the Authorization header is not visible ASCII")
            })
        })
        .transpose()
}

fn by_basic(config: &Config, header: &str, client_id: Option<&str>) -> Result<String, OAuthError> {
    let refused = |why| OAuthError::invalid_client(true, why);
    let (scheme, credentials) = header
        .split_once(' ')
        .ok_or_else(|| refused("the Authorization header has no credentials"))?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(refused("the Authorization scheme is not Basic"));
    }
    let decoded = STANDARD
        .decode(credentials)
        .map_err(|_| refused("the Basic credentials are not base64"))?;
    let decoded =
        String::from_utf8(decoded).map_err(|_| refused("the Basic credentials are not UTF-8"))?;
    let (raw_id, raw_secret) = decoded
        .split_once(':')
        .ok_or_else(|| refused("the Basic credentials contain no colon"))?;

    let id = match config.clients.get(raw_id) {
        Some(Client::RawBasic(secret)) if secret == raw_secret => raw_id.to_owned(),
        Some(Client::RawBasic(_)) => return Err(refused("the client secret is wrong")),
        _ => {
            let id =
                form_decode(raw_id).ok_or_else(|| refused("the client id is not form-encoded"))?;
            let sent = form_decode(raw_secret)
                .ok_or_else(|| refused("the client secret is not form-encoded"))?;
            match config.clients.get(&id) {
                Some(Client::Secret(secret)) if *secret == sent => id,
                Some(Client::Secret(_)) => {
                    return Err(refused("the client secret is wrong"));
                }
                Some(_) => return Err(refused("this client does not authenticate with Basic")),
                None => return Err(refused("the client is unknown")),
            }
        }
    };
    if client_id.is_some_and(|other| other != id) {
        return Err(OAuthError::invalid_request(
            "client_id names a different client than the Authorization header",
        ));
    }
    Ok(id)
}

fn by_post(config: &Config, id: &str, sent: &str) -> Result<String, OAuthError> {
    match config.clients.get(id) {
        Some(Client::Secret(secret)) if secret == sent => Ok(id.to_owned()),
        Some(Client::Secret(_)) => Err(OAuthError::invalid_client(
            false,
            "the client secret is wrong",
        )),
        Some(_) => Err(OAuthError::invalid_client(
            false,
            "this client does not authenticate with a secret in the body",
        )),
        None => Err(OAuthError::invalid_client(false, "the client is unknown")),
    }
}

/// Returns the id of a client that is registered with its key. `None` if the assertion names no such client.
#[cfg(feature = "jwt")]
fn by_private_key(
    core: &Core,
    request: &RecordedRequest,
    assertion: &str,
    assertion_type: &str,
) -> Result<Option<String>, OAuthError> {
    use super::{
        client_assertion::{Expected, claimed_issuer},
        endpoints,
    };

    let named = request.get("client_id").map(ToOwned::to_owned);
    let Some(id) = named.or_else(|| claimed_issuer(assertion)) else {
        return Ok(None);
    };
    let Some(Client::PrivateKey(key)) = core.config.clients.get(&id) else {
        return Ok(None);
    };
    let refused = |why| OAuthError::invalid_client(false, why);
    if assertion_type != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
        return Err(refused("the client_assertion_type is not that of a JWT"));
    }
    let issuer = endpoints::base(core, request);
    let token_endpoint = format!("{issuer}{}", endpoints::TOKEN);
    let sent_to = endpoints::target(request.uri(), request.headers());
    let sent_to = sent_to.map(|uri| uri.to_string());
    let audiences: Vec<String> = [issuer, token_endpoint]
        .into_iter()
        .chain(sent_to)
        .collect();
    let expected = Expected {
        client: &id,
        audiences: &audiences,
        now: crate::base::clock::unix_now(),
    };
    let jti = key.check(assertion, &expected).map_err(refused)?;
    match core.lock().used_jtis.insert((id.clone(), jti)) {
        true => Ok(Some(id)),
        false => Err(refused("the client assertion was used before")),
    }
}

fn by_assertion(
    config: &Config,
    assertion: &str,
    assertion_type: &str,
    client_id: Option<&str>,
) -> Result<String, OAuthError> {
    if !matches!(
        assertion_type,
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            | "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"
    ) {
        return Err(OAuthError::invalid_client(
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
        .ok_or(OAuthError::invalid_client(
            false,
            "the client assertion is not accepted",
        ))
}

fn reject_if_used(core: &Core, assertion: &str) -> Result<(), OAuthError> {
    let is_new = core.lock().seen_assertions.insert(assertion.to_owned());
    if core.config.refuse_replayed_assertions && !is_new {
        return Err(OAuthError::invalid_client(
            false,
            "the client assertion has already been used",
        ));
    }
    Ok(())
}

fn by_id(config: &Config, id: &str) -> Result<String, OAuthError> {
    match config.clients.get(id) {
        Some(Client::Public | Client::Tls) => Ok(id.to_owned()),
        Some(Client::Secret(secret)) if secret.is_empty() => Ok(id.to_owned()),
        Some(_) => Err(OAuthError::invalid_client(
            false,
            "the client did not authenticate",
        )),
        None => Err(OAuthError::invalid_client(false, "the client is unknown")),
    }
}

/// Decodes `application/x-www-form-urlencoded` (RFC 6749 appendix B).
///
/// It accepts only what an encoder can produce: a lenient decoder would hide a client that does not encode.
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
