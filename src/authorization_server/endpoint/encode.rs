//! From a form to an HTTP request. Pure: what takes time has been obtained before.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use zeroize::Zeroizing;

use super::{EndpointCall, check::check_value};
use crate::{
    base::{Quoted, request_headers::default_headers},
    client_authentication::ClientAuthentication,
    error::TokenError,
    message::{AccessToken, Form, NoAccessToken, scope},
    secret::{Credential, Secret},
};

/// Where a request is sent to, and which client sends it.
pub(crate) struct Target<'a> {
    pub(crate) uri: &'a Uri,
    pub(crate) client: &'a ClientAuthentication,
}

/// What was obtained for one attempt.
pub(crate) struct Obtained<'a> {
    /// The text of every credential, in the order of [`credentials`].
    pub(super) secrets: &'a [Secret],
    /// The JWT that the client signed, if it authenticates with one.
    pub(super) assertion: Option<&'a Secret>,
}

/// The credentials of a form and of its client, in the order in which they are sent.
pub(super) fn credentials<'a>(
    form: &'a Form,
    client: &'a ClientAuthentication,
) -> impl Iterator<Item = &'a Credential> {
    let parameters = form.parameters().iter().map(|p| &p.value);
    parameters.chain(client.credential())
}

/// Whether something must be obtained or signed before the request can be made.
pub(super) fn must_obtain(form: &Form, client: &ClientAuthentication) -> bool {
    client.signs() || credentials(form, client).any(|c| c.known().is_none())
}

/// The text of one of the [`credentials`]. `obtained` is `None` if all of them are known.
#[inline]
fn text<'a>(
    index: usize,
    credential: &'a Credential,
    obtained: Option<&Obtained<'a>>,
) -> Option<&'a Secret> {
    match obtained {
        Some(obtained) => obtained.secrets.get(index),
        None => credential.known(),
    }
}

/// Makes the `POST` of a form that has passed [`check`](super::check::check). Its body is wiped from memory when it is dropped.
///
/// `obtained` is `None` if every credential is known and the client signs nothing.
pub(super) fn form<C: EndpointCall>(
    call: &C,
    form: &Form,
    target: &Target<'_>,
    obtained: Option<&Obtained<'_>>,
) -> Result<Request<Bytes>, TokenError> {
    let refuse = |why: String| C::NAMES.refuse(why);
    let mut capacity = 0;
    for (index, parameter) in form.parameters().iter().enumerate() {
        let name = &*parameter.name;
        let Some(value) = text(index, &parameter.value, obtained) else {
            let name = Quoted(name);
            return Err(refuse(format!("the parameter `{name}` was not obtained")));
        };
        let value = value.expose();
        if parameter.value.known().is_none() {
            check_value::<C>(parameter, value).map_err(refuse)?;
        }
        capacity += max_length(name, value);
    }
    let proof = client_proof(form, target.client, obtained).map_err(refuse)?;
    let authorization = match call.access_token() {
        Some(token) => token.sendable().cloned(),
        None => target.client.authorization(proof).map_err(refuse)?,
    };
    let of_client = target.client.parameters(proof);
    for (name, value) in &of_client {
        capacity += max_length(name, value);
    }

    // A body that grows would leave copies of the secrets in memory.
    let mut body = form_urlencoded::Serializer::new(String::with_capacity(capacity));
    for (index, parameter) in form.parameters().iter().enumerate() {
        let value = text(index, &parameter.value, obtained).map_or("", Secret::expose);
        match &*parameter.name {
            _ if parameter.is_left_out(value) => {}
            // The client sends it too. That both values are the same has been checked.
            "client_id" if of_client.iter().any(|(name, _)| *name == "client_id") => {}
            "scope" => {
                body.append_pair("scope", &scope::normalized(value));
            }
            name => {
                body.append_pair(name, value);
            }
        }
    }
    body.extend_pairs(of_client);
    let body = Zeroizing::new(body.finish().into_bytes());

    let content = Some((FORM, Bytes::from_owner(body)));
    Ok(request(
        Method::POST,
        form,
        target.uri,
        content,
        authorization,
    ))
}

/// Makes a `GET` that an access token authorizes.
pub(crate) fn get<C: EndpointCall>(call: &C, form: &Form, target: &Target<'_>) -> Request<Bytes> {
    let authorization = call.access_token().and_then(AccessToken::sendable);
    let authorization = authorization.cloned();
    request(Method::GET, form, target.uri, None, authorization)
}

/// Makes the `POST` of a JSON document, which an access token may authorize. The body is wiped from memory when it is dropped.
pub(crate) fn json<C: EndpointCall>(
    call: &C,
    document: Vec<u8>,
    form: &Form,
    target: &Target<'_>,
) -> Request<Bytes> {
    let authorization = call.access_token().and_then(AccessToken::sendable);
    let body = Bytes::from_owner(Zeroizing::new(document));
    request(
        Method::POST,
        form,
        target.uri,
        Some((JSON, body)),
        authorization.cloned(),
    )
}

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Makes a request with the headers and the extensions of the form. `content` is the type of the body, and the body.
fn request(
    method: Method,
    form: &Form,
    uri: &Uri,
    content: Option<(HeaderValue, Bytes)>,
    authorization: Option<HeaderValue>,
) -> Request<Bytes> {
    let (content_type, body) = content.unzip();
    let mut http = Request::new(body.unwrap_or_default());
    *http.method_mut() = method;
    *http.uri_mut() = uri.clone();
    *http.headers_mut() = headers(form.headers(), content_type, authorization);
    *http.extensions_mut() = form.context().clone();
    http.extensions_mut().insert(NoAccessToken);
    http
}

/// The maximum length of a pair in a form: each byte may be escaped by three. It costs less than the exact length.
fn max_length(name: &str, value: &str) -> usize {
    3 * (name.len() + value.len()) + 2
}

/// The text that proves the client: the assertion that it signed, or its secret. It is empty for a client that needs none.
#[inline]
fn client_proof<'a>(
    form: &Form,
    client: &'a ClientAuthentication,
    obtained: Option<&Obtained<'a>>,
) -> Result<&'a str, String> {
    let secret = client
        .credential()
        .and_then(|credential| text(form.parameters().len(), credential, obtained))
        .map_or("", Secret::expose);
    client.check_secret(secret)?;
    match obtained.and_then(|obtained| obtained.assertion) {
        Some(assertion) => Ok(assertion.expose()),
        None if client.signs() => Err("the client assertion was not signed".into()),
        None => Ok(secret),
    }
}

fn headers(
    extra: &HeaderMap,
    content_type: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
) -> HeaderMap {
    let mut headers = default_headers(extra, extra.len() + 2);
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, content_type);
    }
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    for (name, value) in extra {
        headers.append(name, value.clone());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_does_not_grow_beyond_its_capacity() {
        let every_byte: String = (0..=u8::MAX).map(char::from).collect();
        for (name, value) in [
            ("", ""),
            ("a", "b c"),
            ("é", "日本語 🔑"),
            ("x", &*every_byte),
        ] {
            let capacity = 2 * max_length(name, value);
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair(name, value).append_pair(name, value);
            assert!(form.finish().len() <= capacity, "{name} {value}");
        }
    }
}
