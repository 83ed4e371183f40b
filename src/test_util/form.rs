//! Checks that apply to every form sent to the server.

use std::collections::HashSet;

use http::header::CONTENT_TYPE;

use super::{answer::OAuthError, builder::Config, recorded::RecordedRequest};

/// Secret parameters. They must not appear in a URI, because URIs are logged everywhere.
const SECRET: [&str; 9] = [
    "client_secret",
    "client_assertion",
    "assertion",
    "password",
    "code",
    "code_verifier",
    "refresh_token",
    "subject_token",
    "token",
];

pub(super) fn check(request: &RecordedRequest) -> Result<(), OAuthError> {
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = content_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    if !essence
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    {
        return Err(OAuthError::invalid_request(
            "the body must be application/x-www-form-urlencoded",
        ));
    }
    let query = request.uri().query().unwrap_or_default();
    if form_urlencoded::parse(query.as_bytes()).any(|(name, _)| SECRET.contains(&&*name)) {
        return Err(OAuthError::invalid_request("the URI contains a secret"));
    }
    // "Parameters sent without a value MUST be treated as if they were omitted from the request. … Request
    // and response parameters MUST NOT be included more than once." (RFC 6749 §3.2) `resource` may be
    // repeated (RFC 8707 §2), and so may `audience` (RFC 8693 §2.1).
    let mut seen = HashSet::new();
    let sent = request.form().iter().filter(|(_, value)| !value.is_empty());
    for (name, _) in sent.filter(|(name, _)| name != "resource" && name != "audience") {
        if !seen.insert(name) {
            return Err(OAuthError::invalid_request("a parameter is repeated"));
        }
    }
    Ok(())
}

pub(super) fn require<'a>(
    request: &'a RecordedRequest,
    name: &str,
    missing: &'static str,
) -> Result<&'a str, OAuthError> {
    request
        .get(name)
        .ok_or(OAuthError::invalid_request(missing))
}

/// Returns the requested scope if its syntax is valid (RFC 6749 §3.3) and the server knows every scope token in it.
pub(super) fn scope(
    config: &Config,
    request: &RecordedRequest,
) -> Result<Option<String>, OAuthError> {
    let Some(scope) = request.get("scope") else {
        return Ok(None);
    };
    for token in scope.split(' ') {
        let is_token = !token.is_empty()
            && token
                .bytes()
                .all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        if !is_token {
            return Err(OAuthError::new("invalid_scope", "the scope is malformed"));
        }
        if config
            .scopes
            .as_ref()
            .is_some_and(|known| !known.iter().any(|known| known == token))
        {
            return Err(OAuthError::new("invalid_scope", "the scope is unknown"));
        }
    }
    Ok(Some(scope.to_owned()))
}

pub(super) fn targets(config: &Config, request: &RecordedRequest) -> Result<(), OAuthError> {
    let refused = |why| Err(OAuthError::new("invalid_target", why));
    for resource in request.get_all("resource") {
        // "Its value MUST be an absolute URI … MUST NOT include a fragment component." (RFC 8707 §2)
        if !is_absolute_uri(resource) {
            return refused("a resource is not an absolute URI without a fragment");
        }
    }
    let mut targets = request
        .get_all("resource")
        .chain(request.get_all("audience"));
    match &config.targets {
        Some(known) if !targets.all(|target| known.contains(target)) => {
            refused("a resource or audience is unknown")
        }
        _ => Ok(()),
    }
}

fn is_absolute_uri(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else {
        return false;
    };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        && !rest.is_empty()
        && rest.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

/// Returns whether every scope token in `requested` is also in `granted`.
pub(super) fn is_within(requested: &str, granted: Option<&str>) -> bool {
    let granted = granted.unwrap_or_default();
    requested
        .split(' ')
        .all(|token| granted.split(' ').any(|other| other == token))
}
