//! From a form to an HTTP request. Pure: what takes time has been obtained before.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION},
};

use super::{EndpointCall, check::check_value};
use crate::{
    client_authentication::ClientAuthentication,
    dpop::DPOP,
    error::TokenError,
    message::{Form, NoAccessToken, scope},
    secret::{Credential, Secret},
};

/// Where a request is sent to, and which client sends it.
pub(crate) struct Target<'a> {
    pub(super) uri: &'a Uri,
    pub(super) client: &'a ClientAuthentication,
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

/// Makes the HTTP request of a form that has passed [`check`](super::check::check).
///
/// `obtained` is `None` if every credential is known and the client signs nothing.
pub(super) fn form<C: EndpointCall>(
    form: &Form,
    target: &Target<'_>,
    obtained: Option<&Obtained<'_>>,
) -> Result<Request<Bytes>, TokenError> {
    let refuse = |why: String| C::NAMES.refuse(why);
    let secret = |index: usize, credential: &'_ Credential| match obtained {
        Some(obtained) => obtained.secrets.get(index).cloned(),
        None => credential.known().cloned(),
    };
    let parameters = form.parameters();
    let mut body = form_urlencoded::Serializer::new(String::with_capacity(256));
    for (index, parameter) in parameters.iter().enumerate() {
        let name = &*parameter.name;
        let Some(value) = secret(index, &parameter.value) else {
            return Err(refuse(format!("the parameter `{name}` was not obtained")));
        };
        if parameter.value.known().is_none() {
            check_value::<C>(name, value.expose()).map_err(refuse)?;
        }
        if name == "scope" {
            body.append_pair(name, &scope::normalized(value.expose()));
        } else {
            body.append_pair(name, value.expose());
        }
    }
    let client = target.client;
    let client_secret = client
        .credential()
        .and_then(|credential| secret(parameters.len(), credential));
    let client_secret = client_secret.as_ref().map_or("", Secret::expose);
    client.check_secret(client_secret).map_err(refuse)?;
    let proof = match obtained.and_then(|obtained| obtained.assertion) {
        Some(assertion) => assertion.expose(),
        None if client.signs() => return Err(refuse("the client assertion was not signed".into())),
        None => client_secret,
    };
    body.extend_pairs(client.parameters(proof));
    let authorization = client.authorization(proof).map_err(refuse)?;

    let mut http = Request::new(Bytes::from(body.finish()));
    *http.method_mut() = Method::POST;
    *http.uri_mut() = target.uri.clone();
    *http.headers_mut() = headers(form.headers(), authorization);
    *http.extensions_mut() = form.extensions().clone();
    http.extensions_mut().insert(NoAccessToken);
    Ok(http)
}

fn headers(asked: &HeaderMap, authorization: Option<HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(asked.len() + 3);
    if !asked.contains_key(ACCEPT) {
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    }
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    for (name, value) in asked {
        let mut value = value.clone();
        let is_secret = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, DPOP].contains(name);
        value.set_sensitive(value.is_sensitive() || is_secret);
        headers.append(name, value);
    }
    headers
}
