//! Code shared by the tests of several servers.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{
    HeaderMap, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde_json::Value;
use tokio::{task::JoinSet, time};
use tower::{Service, ServiceExt as _, service_fn};
use tower_oauth2_client::{
    BoxError, ClientCertificate, ErrorCode, HttpsClient, TokenError, TokenErrorKind, TokenResponse,
    jwt::{SigningAlgorithm, SigningKey},
};

use crate::setting;

pub(crate) const SECRET: &str = "interop-secret-0123456789abcdef0123456789abcdef";
/// HMAC keys must be at least as long as the hash; this is long enough for all hashes (RFC 7518 §3.2).
pub(crate) const HMAC_SECRET: &str =
    "interop-hmac-secret-0123456789abcdef0123456789abcdef0123456789abcdef";
/// Where [`keep_calling`] calls an API in this process.
pub(crate) const API_URI: &str = "https://api.example/";
pub(crate) const REDIRECT_URI: &str = "http://127.0.0.1:9999/cb";
pub(crate) const STATE: &str = "state of this sign-in";

// RFC 7636 appendix B.
pub(crate) const CODE_VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CODE_CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// All algorithms that sign with a secret.
pub(crate) const HMAC: [SigningAlgorithm; 3] = [
    SigningAlgorithm::HS256,
    SigningAlgorithm::HS384,
    SigningAlgorithm::HS512,
];
/// The algorithms that sign with a private key and that both servers know.
pub(crate) const SIGNATURES: [SigningAlgorithm; 10] = [
    SigningAlgorithm::RS256,
    SigningAlgorithm::RS384,
    SigningAlgorithm::RS512,
    SigningAlgorithm::PS256,
    SigningAlgorithm::PS384,
    SigningAlgorithm::PS512,
    SigningAlgorithm::ES256,
    SigningAlgorithm::ES384,
    SigningAlgorithm::ES512,
    SigningAlgorithm::EdDSA,
];

pub(crate) type Http = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn http() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Reads a file made by `client-keys`. `folder` is the setting that contains the folder.
pub(crate) fn pem(folder: &str, name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/{name}", setting(folder))).unwrap()
}

/// Returns the signing key whose key id on the server is the name of the algorithm.
pub(crate) fn signing_key(folder: &str, algorithm: SigningAlgorithm) -> SigningKey {
    let name = match algorithm {
        SigningAlgorithm::ES256 => "signing-es256.key",
        SigningAlgorithm::ES384 => "signing-es384.key",
        SigningAlgorithm::ES512 => "signing-es512.key",
        SigningAlgorithm::EdDSA | SigningAlgorithm::Ed25519 => "signing-ed25519.key",
        _ => "signing-rsa.key",
    };
    SigningKey::from_pem(pem(folder, name), algorithm)
        .unwrap()
        .kid(algorithm.as_str())
}

pub(crate) fn client_certificate(folder: &str, name: &str) -> ClientCertificate {
    let [chain, key] = ["pem", "key"].map(|end| pem(folder, &format!("{name}.{end}")));
    ClientCertificate::from_pem(chain, key).unwrap()
}

/// Returns a client that trusts only the certificate authority of this test run.
pub(crate) fn https(folder: &str, certificate: Option<&ClientCertificate>) -> HttpsClient {
    let mut builder = HttpsClient::builder()
        .root_certificates_pem(pem(folder, "ca.pem"))
        .unwrap();
    if let Some(certificate) = certificate {
        builder = builder.client_certificate(certificate.clone());
    }
    builder.build().unwrap()
}

/// The sent requests, in order.
#[derive(Clone, Default)]
pub(crate) struct Sent(Arc<Mutex<Vec<Request<Full<Bytes>>>>>);

impl Sent {
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn last(&self) -> Request<Full<Bytes>> {
        self.0.lock().unwrap().last().unwrap().clone()
    }

    /// Returns the values of one header, one per request.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let requests = self.0.lock().unwrap();
        let values = requests.iter().map(|request| &request.headers()[name]);
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    /// Returns the DPoP proofs, of the requests that have one.
    pub(crate) fn proofs(&self) -> Vec<String> {
        let requests = self.0.lock().unwrap();
        let proofs = requests
            .iter()
            .filter_map(|request| request.headers().get("dpop"));
        proofs
            .map(|proof| proof.to_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn record<S>(&self, http: S) -> Recording<S> {
        let sent = self.clone();
        Recording { http, sent }
    }
}

#[derive(Clone)]
pub(crate) struct Recording<S> {
    http: S,
    sent: Sent,
}

impl<S> Service<Request<Full<Bytes>>> for Recording<S>
where
    S: Service<Request<Full<Bytes>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.http.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> S::Future {
        self.sent.0.lock().unwrap().push(request.clone());
        self.http.call(request)
    }
}

/// Returns a field of the form in a request body.
pub(crate) async fn field(request: Request<Full<Bytes>>, name: &str) -> String {
    let form = request.into_body().collect().await.unwrap().to_bytes();
    let mut fields = form_urlencoded::parse(&form);
    let (_, value) = fields.find(|(key, _)| key == name).unwrap();
    value.into_owned()
}

/// Calls an API and returns its JSON response.
pub(crate) async fn call<S>(
    api: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<Value>, BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error: Into<BoxError>>,
{
    let response = api.oneshot(request).await.map_err(Into::into)?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(parts, serde_json::from_slice(&body)?))
}

/// Posts a form to an endpoint other than the token endpoint.
pub(crate) async fn post<S>(http: S, uri: &str, client_id: &str, fields: &[(&str, &str)]) -> Value
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error: Into<BoxError>>,
{
    try_post(http, uri, client_id, fields).await.unwrap()
}

async fn try_post<S>(
    http: S,
    uri: &str,
    client_id: &str,
    fields: &[(&str, &str)],
) -> Result<Value, BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error: Into<BoxError>>,
{
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let request = Request::post(uri)
        .header(AUTHORIZATION, basic_credentials(client_id))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(form))?;

    let response = http.oneshot(request).await.map_err(Into::into)?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    assert_eq!(status, StatusCode::OK, "{uri} answers {body:?}");
    if body.is_empty() {
        return Ok(Value::Null);
    }
    Ok(serde_json::from_slice(&body)?)
}

pub(crate) fn basic_credentials(client_id: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{client_id}:{SECRET}")))
}

/// Returns the claims of a JWT without verifying it.
pub(crate) fn claims(jwt: &str) -> Value {
    let payload = jwt.split('.').nth(1).expect("not a JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Returns the code in the redirect from the authorization endpoint.
pub(crate) fn code_in(redirect: &Uri) -> String {
    let parameter = |name| {
        form_urlencoded::parse(redirect.query()?.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    assert_eq!(parameter("state").as_deref(), Some(STATE));
    parameter("code").unwrap_or_else(|| panic!("no code in {redirect}"))
}

/// Returns the error code and the status of a refused request.
pub(crate) fn refused(result: Result<TokenResponse, TokenError>) -> (ErrorCode, StatusCode) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::ErrorResponse, "{error}");
    assert!(!error.is_transient());
    let code = error.error_response().unwrap().code().clone();
    (code, error.status().unwrap())
}

/// Like [`refused`], but also checks for status 400, the usual one (RFC 6749 §5.2).
pub(crate) fn invalid(result: Result<TokenResponse, TokenError>) -> ErrorCode {
    let (code, status) = refused(result);
    assert_eq!(status, StatusCode::BAD_REQUEST);
    code
}

/// The tokens that an API has accepted.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<HashSet<String>>>);

impl Seen {
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn contains(&self, token: &str) -> bool {
        self.0.lock().unwrap().contains(token)
    }

    fn insert(&self, token: String) {
        self.0.lock().unwrap().insert(token);
    }
}

/// An API that introspects each token (RFC 7662) at `endpoint`. While the endpoint does not respond, it accepts the tokens that it
/// has accepted before.
pub(crate) fn api<S>(
    http: S,
    endpoint: String,
    seen: Seen,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<Full<Bytes>>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send,
> + Clone
+ Send
+ 'static
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error: Into<BoxError>>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    service_fn(move |request: Request<Full<Bytes>>| {
        let (http, endpoint, seen) = (http.clone(), endpoint.clone(), seen.clone());
        let token = bearer(request.headers());
        async move {
            let is_active = match try_post(http, &endpoint, "basic", &[("token", &token)]).await {
                Ok(state) => state["active"] == true,
                Err(_) => seen.contains(&token),
            };
            if is_active {
                seen.insert(token);
                return Ok(Response::new(Full::from("hello")));
            }
            let refusal = Response::builder()
                .status(StatusCode::UNAUTHORIZED)
                .header(WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#);
            Ok(refusal.body(Full::default())?)
        }
    })
}

/// An API that validates access tokens locally: JWTs for `audience`, signed by the issuer (RFC 9068).
pub(crate) fn jwt_api(
    keys: JwkSet,
    audience: &'static str,
    seen: Seen,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<Full<Bytes>>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send,
> + Clone
+ Send
+ 'static {
    let keys = Arc::new(keys);
    service_fn(move |request: Request<Full<Bytes>>| {
        let token = bearer(request.headers());
        let is_good = is_valid(&token, &keys, audience);
        let response = match is_good {
            Ok(()) => {
                seen.insert(token);
                Response::builder().body(Full::from("hello"))
            }
            Err(error) => Response::builder()
                .status(StatusCode::UNAUTHORIZED)
                .header(WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)
                .body(Full::from(error.to_string())),
        };
        async move { Ok(response?) }
    })
}

fn is_valid(token: &str, keys: &JwkSet, audience: &str) -> Result<(), BoxError> {
    let header = jsonwebtoken::decode_header(token)?;
    let key = header.kid.as_deref().and_then(|kid| keys.find(kid));
    let key = DecodingKey::from_jwk(key.ok_or("the key is unknown")?)?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[audience]);
    validation.leeway = 0;
    jsonwebtoken::decode::<Value>(token, &key, &validation)?;
    Ok(())
}

fn bearer(headers: &HeaderMap) -> String {
    let value = headers[AUTHORIZATION].to_str().unwrap();
    value.strip_prefix("Bearer ").unwrap().to_owned()
}

/// Calls an API from several tasks, each making `calls` calls at intervals of `pace`. Every call must succeed.
pub(crate) fn keep_calling<S>(api: &S, tasks: usize, calls: u32, pace: Duration) -> JoinSet<()>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = BoxError>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let mut calling = JoinSet::new();
    for _ in 0..tasks {
        let mut api = api.clone();
        calling.spawn(async move {
            let mut tick = time::interval(pace);
            for _ in 0..calls {
                tick.tick().await;
                let request = Request::get(API_URI).body(Full::default());
                let response = api.ready().await.unwrap().call(request.unwrap());
                assert_eq!(response.await.unwrap().status(), StatusCode::OK);
            }
        });
    }
    calling
}

/// Waits for all tasks, and panics if one has panicked.
pub(crate) async fn all_done(mut tasks: JoinSet<()>) {
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
}
