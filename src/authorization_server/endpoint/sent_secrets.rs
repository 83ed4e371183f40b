//! The secrets that a request carries, so that they can be masked in what the server says about it.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::encode::JSON;
use crate::{base::mask::Mask, dpop::DPOP, message::ClientMetadata, secret::Secret};

/// The parts of a request that may contain secrets. It shares them with the request; nothing is copied.
pub(super) struct SentSecrets {
    body: Bytes,
    /// Whether the body is a JSON object, and not a form.
    is_json: bool,
    /// The secret of the client, if it was known beforehand.
    secret: Option<Secret>,
    rest: Option<Box<Rest>>,
}

/// What most requests do not have.
struct Rest {
    headers: Vec<HeaderValue>,
    uri: Uri,
}

impl SentSecrets {
    /// The secrets of a request to which the user has added the `headers`.
    ///
    /// `secret` is the secret of the client. It stands for the `Authorization` header, whose first clone would allocate.
    pub(super) fn of_known(
        request: &Request<Bytes>,
        secret: Option<Secret>,
        headers: &HeaderMap,
    ) -> Self {
        let uri = request.uri();
        let has_rest = !headers.is_empty() || uri.query().is_some();
        let rest = || {
            let headers = headers.iter();
            let secrets = headers.filter(|(name, value)| {
                value.is_sensitive() || *name == DPOP || *name == AUTHORIZATION
            });
            Box::new(Rest {
                headers: secrets.map(|(_, value)| value.clone()).collect(),
                uri: uri.clone(),
            })
        };
        Self {
            body: request.body().clone(),
            is_json: request.headers().get(CONTENT_TYPE) == Some(&JSON),
            secret,
            rest: has_rest.then(rest),
        }
    }

    /// The secrets of a request for which some were obtained.
    pub(super) fn of(request: &Request<Bytes>) -> Self {
        Self::of_known(request, None, request.headers())
    }

    /// Finds the secrets in the request.
    pub(super) fn mask(&self) -> Mask {
        let mut mask = Mask::default();
        match self.is_json {
            true => add_members(&mut mask, &self.body),
            false => add_form(&mut mask, &self.body),
        }
        if let Some(secret) = &self.secret {
            mask.add(secret.expose());
        }
        if let Some(rest) = &self.rest {
            let headers = rest.headers.iter().filter_map(|value| value.to_str().ok());
            headers.for_each(|value| add_header(&mut mask, value));
            add_uri(&mut mask, &rest.uri);
        }
        mask.ready()
    }
}

fn add_form(mask: &mut Mask, body: &[u8]) {
    for (name, value) in form_urlencoded::parse(body) {
        let value = Zeroizing::new(value.into_owned());
        if !is_public(&name) {
            add_value(mask, &value);
        }
    }
}

/// Adds the members of a client's metadata, except for the public ones.
fn add_members(mask: &mut Mask, body: &[u8]) {
    let members = serde_json::from_slice::<Map<String, Value>>(body);
    for (name, value) in members.unwrap_or_default() {
        if let (Value::String(value), false) = (value, ClientMetadata::is_public(&name)) {
            add_value(mask, &Zeroizing::new(value));
        }
    }
}

fn add_value(mask: &mut Mask, value: &str) {
    match value.contains("://") {
        // Parts of it are in many messages.
        true => mask.add_whole(value),
        false => mask.add(value),
    }
}

/// Adds the parameters of a URI. One without a value may be a secret itself. A URI with a password is never requested.
fn add_uri(mask: &mut Mask, uri: &Uri) {
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        let secret = if value.is_empty() { name } else { value };
        mask.add(&Zeroizing::new(secret.into_owned()));
    }
}

/// Adds the value of a header: the credentials without their scheme, and of Basic authentication, the secret.
fn add_header(mask: &mut Mask, value: &str) {
    let (scheme, credentials) = value.split_once(' ').unwrap_or(("", value));
    if !scheme.eq_ignore_ascii_case("basic") {
        mask.add(value);
        mask.add(credentials);
        return;
    }
    mask.add_whole(credentials);
    let decoded = BASE64_STANDARD.decode(credentials).map(Zeroizing::new);
    let pair = decoded.as_deref().map(|pair| std::str::from_utf8(pair));
    if let Ok(Ok(pair)) = pair {
        let (_, secret) = pair.split_once(':').unwrap_or(("", pair));
        mask.add(secret);
        // `client_secret_basic` encodes the secret as a form does.
        let form = Zeroizing::new(format!("={secret}"));
        for (_, secret) in form_urlencoded::parse(form.as_bytes()) {
            mask.add(&Zeroizing::new(secret.into_owned()));
        }
    }
}

/// Whether a parameter is public. Any other may be a secret.
fn is_public(name: &str) -> bool {
    const PUBLIC: [&str; 15] = [
        "acr_values",
        "actor_token_type",
        "audience",
        "authorization_details",
        "claims",
        "client_assertion_type",
        "client_id",
        "grant_type",
        "redirect_uri",
        "requested_token_type",
        "resource",
        "scope",
        "subject_token_type",
        "token_type_hint",
        "username",
    ];
    PUBLIC.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_of_every_place_are_found_and_what_is_public_is_not() {
        let body = "grant_type=password&scope=read-all&username=joe%20doe&password=s1%2Bpass\
                    &client_id=client-id&audience=https%3A%2F%2Fapi.example&otp=s2otp&tenant=abc";
        let basic = BASE64_STANDARD.encode("client-id:s3%2Bbasic");
        let mut sensitive = HeaderValue::from_static("s4-gateway-key");
        sensitive.set_sensitive(true);
        let request = Request::post("https://as.example/token?key=s6query")
            .header("authorization", format!("Basic {basic}"))
            .header("x-api", sensitive)
            .header("dpop", "s7.proof.jwt")
            .header("x-tenant", "blue-tenant")
            .body(Bytes::from(body))
            .unwrap();
        let mask = SentSecrets::of(&request).mask();
        for secret in [
            "s1+pass",
            "s2otp",
            "s3+basic",
            "s3%2Bbasic",
            "s4-gateway-key",
            "s6query",
            "s7.proof.jwt",
            &*basic,
        ] {
            assert_eq!(
                mask.apply(secret).as_deref(),
                Some("[redacted]"),
                "{secret}"
            );
        }
        let public =
            "joe doe of client-id wants read-all at https://api.example as abc of blue-tenant";
        assert_eq!(mask.apply(public), None);
    }
}
