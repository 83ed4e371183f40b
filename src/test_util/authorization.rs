//! The authorization endpoint, whose user always agrees, and the endpoint for pushed authorization requests.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use form_urlencoded::{Serializer, parse};
use http::{HeaderValue, Response, StatusCode, Uri, header::LOCATION};
use serde_json::json;
use tokio::time::Instant;

use super::{
    AuthorizationCode, AuthorizationServer, Core,
    answer::{OAuthError, empty_response, json_response},
    client::authenticate,
    endpoints, form,
    recorded::RecordedRequest,
    state::{ServerState, has_expired},
};

const PUSHED_LIFETIME: Duration = Duration::from_secs(60);

/// A pushed authorization request.
pub(super) struct PushedRequest {
    client: String,
    parameters: Vec<(String, String)>,
    expires_at: Option<Instant>,
}

impl AuthorizationServer {
    /// Opens an authorization URL in place of the browser of a user who agrees to everything.
    ///
    /// Returns the URI to which the server redirects the browser, with a code or an error. `None` if it does not redirect, because the
    /// request names no known client or no redirect URI. Any redirect URI is accepted. A server that listens does the same for a real
    /// browser, at its `authorization_endpoint`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{
    ///     ClientAuthentication, TokenEndpoint,
    ///     authorization_code::{AuthorizationRequest, AuthorizationResponse},
    ///     test_util::AuthorizationServer,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// let server = AuthorizationServer::new();
    /// let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// let endpoint = TokenEndpoint::discover(server.clone(), server.issuer(), client);
    ///
    /// let request = AuthorizationRequest::new("https://app.test/callback").scope("orders");
    /// let (url, mut pending) = endpoint.begin_authorization(request).await?;
    /// let returned_to = server.authorize(&url).unwrap();
    /// assert!(returned_to.starts_with("https://app.test/callback?code="));
    ///
    /// let request = pending.accept(&AuthorizationResponse::from_uri(returned_to))?;
    /// endpoint.oneshot(request).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn authorize(&self, url: &str) -> Option<String> {
        let uri: Uri = url.parse().ok()?;
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.uri = uri;
        let request = RecordedRequest::new(parts, b"");
        let response = authorization(&self.core, &request).ok()?;
        let location = response.headers().get(LOCATION)?;
        location.to_str().ok().map(str::to_owned)
    }
}

/// The parameters of an authorization request, from its query or pushed.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn get(&self, name: &str) -> Option<&str> {
        let mut sent = self.0.iter().filter(|(_, value)| !value.is_empty());
        sent.find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
}

/// RFC 6749 §4.1.1 and §4.1.2, RFC 9207.
pub(super) fn authorization(
    core: &Core,
    request: &RecordedRequest,
) -> Result<Response<Bytes>, OAuthError> {
    let query = request.uri().query().unwrap_or_default();
    let sent = Parameters(parse(query.as_bytes()).into_owned().collect());
    let client = sent.get("client_id").unwrap_or_default().to_owned();
    if !core.config.clients.contains_key(&client) {
        return Err(OAuthError::invalid_request("the client is unknown"));
    }
    let parameters = match sent.get("request_uri") {
        Some(reference) => take_pushed(&mut core.lock(), reference, &client)?,
        None => sent,
    };
    let redirect_uri = parameters
        .get("redirect_uri")
        .ok_or(OAuthError::invalid_request("redirect_uri is missing"))?;

    let mut answer: Vec<(&str, Cow<'_, str>)> =
        match issue(core, &client, redirect_uri, &parameters) {
            Ok(code) => vec![("code", code.into())],
            Err((error, description)) => vec![
                ("error", error.into()),
                ("error_description", description.into()),
            ],
        };
    if let Some(state) = parameters.get("state") {
        answer.push(("state", state.into()));
    }
    answer.push(("iss", endpoints::base(core, request).into()));
    redirect(redirect_uri, &answer)
}

/// Issues a code, or returns an error code and its description.
fn issue(
    core: &Core,
    client: &str,
    redirect_uri: &str,
    parameters: &Parameters,
) -> Result<String, (&'static str, &'static str)> {
    let mut seen = std::collections::HashSet::new();
    let mut names = parameters.0.iter().map(|(name, _)| name);
    if names.any(|name| name != "resource" && !seen.insert(name)) {
        return Err(("invalid_request", "a parameter is repeated"));
    }
    if parameters.get("response_type") != Some("code") {
        return Err(("unsupported_response_type", "response_type must be code"));
    }
    let mut code = AuthorizationCode::new(client, redirect_uri).subject("user");
    match (
        parameters.get("code_challenge"),
        parameters.get("code_challenge_method"),
    ) {
        (Some(challenge), Some("S256")) => code = code.s256_challenge(challenge),
        (None, None) => {}
        _ => return Err(("invalid_request", "code_challenge_method must be S256")),
    }
    if let Some(scope) = parameters.get("scope") {
        code = code.scope(scope);
    }
    if let Some(nonce) = parameters.get("nonce") {
        code = code.nonce(nonce);
    }
    code.key = parameters.get("dpop_jkt").map(str::to_owned);
    Ok(core.issue_code(code))
}

fn redirect(
    redirect_uri: &str,
    answer: &[(&str, Cow<'_, str>)],
) -> Result<Response<Bytes>, OAuthError> {
    let answer = Serializer::new(String::new()).extend_pairs(answer).finish();
    let separator = if redirect_uri.contains('?') { '&' } else { '?' };
    let location = HeaderValue::try_from(format!("{redirect_uri}{separator}{answer}"))
        .map_err(|_| OAuthError::invalid_request("redirect_uri is malformed"))?;
    let mut response = empty_response(StatusCode::SEE_OTHER);
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// "The authorization server MUST treat `request_uri` values as one-time use" is a recommendation of RFC 9126 §4. Here it is a rule.
fn take_pushed(
    state: &mut ServerState,
    reference: &str,
    client: &str,
) -> Result<Parameters, OAuthError> {
    let now = state.now();
    let pushed = state.pushed.remove(reference);
    let pushed =
        pushed.filter(|pushed| pushed.client == client && !has_expired(pushed.expires_at, now));
    pushed
        .map(|pushed| Parameters(pushed.parameters))
        .ok_or(OAuthError::new(
            "invalid_request_uri",
            "the request_uri is unknown, used or expired",
        ))
}

/// RFC 9126 §2.
pub(super) fn push(core: &Core, request: &RecordedRequest) -> Result<Response<Bytes>, OAuthError> {
    form::check(request)?;
    let client = authenticate(core, request)?.ok_or(OAuthError::invalid_client(
        false,
        "the request does not identify a client",
    ))?;
    if request.get("request_uri").is_some() {
        return Err(OAuthError::invalid_request(
            "request_uri must not be pushed",
        ));
    }
    form::require(request, "client_id", "client_id is missing")?;
    form::require(request, "redirect_uri", "redirect_uri is missing")?;
    form::scope(&core.config, request)?;
    form::targets(&core.config, request)?;
    let mut parameters = request.form().to_vec();
    #[cfg(feature = "dpop")]
    if let Some(key) = super::dpop::check_token_request(core, request)? {
        match request.get("dpop_jkt") {
            Some(other) if other != key => {
                return Err(OAuthError::new(
                    "invalid_dpop_proof",
                    "dpop_jkt is of another key",
                ));
            }
            Some(_) => {}
            None => parameters.push(("dpop_jkt".to_owned(), key)),
        }
    }
    parameters.retain(|(name, _)| !name.starts_with("client_"));
    let mut state = core.lock();
    let name = state.new_credential("par");
    let reference = format!("urn:ietf:params:oauth:request_uri:{name}");
    let pushed = PushedRequest {
        client: client.id,
        parameters,
        expires_at: state.after(PUSHED_LIFETIME),
    };
    state.pushed.insert(reference.clone(), pushed);
    let body = json!({ "request_uri": reference, "expires_in": PUSHED_LIFETIME.as_secs() });
    Ok(json_response(StatusCode::CREATED, &body))
}
