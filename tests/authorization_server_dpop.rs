//! DPoP in the test authorization server, compared with a judge that is built on another library.

mod dpop_support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, BoxError, ClientAuthentication, DpopKey, TokenCache,
    TokenEndpoint, TokenRequest, TokenResponse, TokenSource,
    add_access_token::CloneBody,
    jwt::{Signer, SigningAlgorithm, SigningKey},
    test_util::{AuthorizationCode, AuthorizationServer},
};

use self::dpop_support::{Judge, digest};

const TOKEN: &str = "https://as.test/token";
const API: &str = "https://api.test/orders";
const ALGORITHMS: [SigningAlgorithm; 9] = [
    SigningAlgorithm::ES256,
    SigningAlgorithm::ES384,
    SigningAlgorithm::EdDSA,
    SigningAlgorithm::PS256,
    SigningAlgorithm::PS384,
    SigningAlgorithm::PS512,
    SigningAlgorithm::RS256,
    SigningAlgorithm::RS384,
    SigningAlgorithm::RS512,
];

/// The parts of a proof before it is signed, which a test changes.
#[derive(Clone, Debug)]
struct Draft {
    header: Value,
    claims: Value,
}

impl Draft {
    /// Returns a valid proof for a token request.
    fn new(key: &SigningKey) -> Self {
        let jwk: Value = serde_json::from_str(key.public_key().unwrap().as_json()).unwrap();
        Self {
            header: json!({"typ": "dpop+jwt", "alg": key.algorithm().as_str(), "jwk": jwk}),
            claims: json!({
                "jti": format!("{:032x}", fastrand::u128(..)),
                "htm": "POST",
                "htu": TOKEN,
                "iat": unix_now(),
            }),
        }
    }

    /// Returns a valid proof for a GET request to the API.
    fn for_api(key: &SigningKey, token: &str) -> Self {
        let mut draft = Self::new(key);
        draft.claims["htm"] = "GET".into();
        draft.claims["htu"] = API.into();
        draft.claims["ath"] = digest(token).into();
        draft
    }

    async fn sign(&self, key: &SigningKey) -> String {
        let [header, claims] = [&self.header, &self.claims]
            .map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = key.sign(signed.as_bytes()).await.unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

#[allow(clippy::disallowed_methods, reason = "the rule is for `src/`")]
fn unix_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs()
}

fn headers(proofs: &[&str], token: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for proof in proofs {
        let mut value = HeaderValue::try_from(*proof).unwrap();
        value.set_sensitive(true);
        headers.append("dpop", value);
    }
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("DPoP {token}")).unwrap();
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    headers
}

/// Sends a token request with these proofs by hand.
async fn ask(server: &AuthorizationServer, proofs: &[&str]) -> Response<Value> {
    let mut request: Request<Full<Bytes>> = Request::post(TOKEN)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(
            "grant_type=client_credentials&client_id=client&client_secret=secret",
        ))
        .unwrap();
    request.headers_mut().extend(headers(proofs, None));
    let response = server.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(parts, serde_json::from_slice(&body).unwrap())
}

fn api_request(proofs: &[&str], token: &str) -> Request<()> {
    let mut request = Request::get(API).body(()).unwrap();
    request.headers_mut().extend(headers(proofs, Some(token)));
    request
}

/// Returns the `WWW-Authenticate` header of a refusal.
fn challenge(response: &Response<Full<Bytes>>) -> &str {
    response.headers()[header::WWW_AUTHENTICATE]
        .to_str()
        .unwrap()
}

/// Runs a check of the judge, which panics when it refuses.
fn accepts(check: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(check)).is_ok()
}

/// The judge and the server, which must agree about each proof.
struct Pair {
    key: SigningKey,
    dpop_key: DpopKey,
    judge: Judge,
    server: AuthorizationServer,
    token: String,
}

impl Pair {
    async fn new(algorithm: SigningAlgorithm) -> Self {
        let key = SigningKey::generate(algorithm).unwrap();
        let server = AuthorizationServer::new();
        let answer = ask(&server, &[&Draft::new(&key).sign(&key).await]).await;
        let token = answer.body()["access_token"].as_str().unwrap().to_owned();
        Self {
            dpop_key: DpopKey::new(key.clone()).unwrap(),
            key,
            judge: Judge::new(),
            server,
            token,
        }
    }

    #[track_caller]
    fn agreed(what: &str, by_judge: bool, by_server: bool) -> bool {
        assert_eq!(by_judge, by_server, "judge and server differ about {what}");
        by_server
    }

    async fn at_token_endpoint(&self, what: &str, proofs: &[&str]) -> bool {
        let headers = headers(proofs, None);
        let by_judge = accepts(|| {
            self.judge.token_request(&headers, TOKEN, &self.dpop_key);
        });
        let answer = ask(&self.server, proofs).await;
        let by_server = answer.status() == StatusCode::OK;
        if !by_server {
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{what}");
            assert_eq!(answer.body()["error"], "invalid_dpop_proof", "{what}");
        }
        Self::agreed(what, by_judge, by_server)
    }

    fn at_api(&self, what: &str, proofs: &[&str]) -> bool {
        let request = api_request(proofs, &self.token);
        let by_judge = accepts(|| {
            self.judge
                .api_request(request.headers(), "GET", API, &self.dpop_key);
        });
        let by_server = self.server.check_dpop(&request).inspect_err(|refusal| {
            assert_eq!(refusal.status(), StatusCode::UNAUTHORIZED, "{what}");
            let challenge = challenge(refusal);
            assert!(
                challenge.starts_with("DPoP error=\"invalid_"),
                "{what}: {challenge}"
            );
        });
        Self::agreed(what, by_judge, by_server.is_ok())
    }
}

type Change = fn(&mut Draft);

/// Proofs that no server may accept, neither at the token endpoint nor at an API.
const INVALID: [(&str, Change); 29] = [
    ("no `typ`", |d| {
        drop(d.header.as_object_mut().unwrap().remove("typ"))
    }),
    ("`typ` of another JWT", |d| d.header["typ"] = "JWT".into()),
    ("no `alg`", |d| {
        drop(d.header.as_object_mut().unwrap().remove("alg"))
    }),
    ("no signature", |d| d.header["alg"] = "none".into()),
    ("a symmetric algorithm", |d| {
        d.header["alg"] = "HS256".into()
    }),
    ("another algorithm of the same key type", |d| {
        d.header["alg"] = "ES384".into()
    }),
    ("an algorithm of another key type", |d| {
        d.header["alg"] = "RS256".into()
    }),
    ("an unknown algorithm", |d| d.header["alg"] = "ES257".into()),
    ("no key", |d| {
        drop(d.header.as_object_mut().unwrap().remove("jwk"))
    }),
    ("a key that is a string", |d| d.header["jwk"] = "key".into()),
    ("an incomplete key", |d| {
        drop(d.header["jwk"].as_object_mut().unwrap().remove("x"))
    }),
    ("a point that is not on the curve", |d| {
        d.header["jwk"]["x"] = d.header["jwk"]["y"].clone()
    }),
    ("a private key", |d| {
        d.header["jwk"]["d"] = d.header["jwk"]["x"].clone()
    }),
    ("a symmetric key", |d| {
        d.header["jwk"] = json!({"kty": "oct", "k": "c2VjcmV0"})
    }),
    ("no `jti`", |d| {
        drop(d.claims.as_object_mut().unwrap().remove("jti"))
    }),
    ("a `jti` that is too short", |d| {
        d.claims["jti"] = "123456789012345".into()
    }),
    ("a `jti` that is a number", |d| {
        d.claims["jti"] = json!(1_234_567_890_123_456_789_u64)
    }),
    ("no `htm`", |d| {
        drop(d.claims.as_object_mut().unwrap().remove("htm"))
    }),
    ("another method", |d| d.claims["htm"] = "PUT".into()),
    ("a method in lower case", |d| {
        let method = d.claims["htm"].as_str().unwrap().to_ascii_lowercase();
        d.claims["htm"] = method.into();
    }),
    ("no `htu`", |d| {
        drop(d.claims.as_object_mut().unwrap().remove("htu"))
    }),
    ("another host", |d| {
        d.claims["htu"] = "https://evil.test/token".into()
    }),
    ("another path", |d| append_to_htu(d, "/x")),
    ("a query", |d| append_to_htu(d, "?x=1")),
    ("a fragment", |d| append_to_htu(d, "#x")),
    ("no `iat`", |d| {
        drop(d.claims.as_object_mut().unwrap().remove("iat"))
    }),
    ("an old proof", |d| {
        d.claims["iat"] = (unix_now() - 3600).into()
    }),
    ("a proof of the future", |d| {
        d.claims["iat"] = (unix_now() + 3600).into()
    }),
    ("an `iat` that is a string", |d| {
        d.claims["iat"] = unix_now().to_string().into()
    }),
];

fn append_to_htu(draft: &mut Draft, more: &str) {
    let htu = format!("{}{more}", draft.claims["htu"].as_str().unwrap());
    draft.claims["htu"] = htu.into();
}

/// Keeps the refusals of the judge, which are panics, out of the output.
fn hide_refusals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = take_hook();
        set_hook(Box::new(move |panic| {
            let at = panic.location().map_or("", |at| at.file());
            if !at.contains("dpop_support") {
                hook(panic);
            }
        }));
    });
}

#[tokio::test]
async fn judge_and_server_accept_each_algorithm() {
    for algorithm in ALGORITHMS {
        let pair = Pair::new(algorithm).await;
        let proof = Draft::new(&pair.key).sign(&pair.key).await;
        assert!(pair.at_token_endpoint(algorithm.as_str(), &[&proof]).await);
        let proof = Draft::for_api(&pair.key, &pair.token).sign(&pair.key).await;
        assert!(pair.at_api(algorithm.as_str(), &[&proof]));
    }
}

#[tokio::test]
async fn judge_and_server_refuse_each_invalid_proof() {
    hide_refusals();
    let pair = Pair::new(SigningAlgorithm::ES256).await;
    for (what, change) in INVALID {
        let mut draft = Draft::new(&pair.key);
        change(&mut draft);
        let proof = draft.sign(&pair.key).await;
        assert!(!pair.at_token_endpoint(what, &[&proof]).await, "{what}");
        let mut draft = Draft::for_api(&pair.key, &pair.token);
        change(&mut draft);
        let proof = draft.sign(&pair.key).await;
        assert!(!pair.at_api(what, &[&proof]), "{what}");
    }
}

#[tokio::test]
async fn judge_and_server_refuse_a_proof_of_another_place_and_one_that_was_used() {
    hide_refusals();
    let pair = Pair::new(SigningAlgorithm::EdDSA).await;
    let for_token = Draft::new(&pair.key).sign(&pair.key).await;
    let for_api = Draft::for_api(&pair.key, &pair.token).sign(&pair.key).await;
    assert!(!pair.at_api("a proof for the token endpoint", &[&for_token]));
    assert!(
        !pair
            .at_token_endpoint("a proof for an API", &[&for_api])
            .await
    );

    let mut draft = Draft::new(&pair.key);
    draft.claims["ath"] = digest(&pair.token).into();
    let with_hash = draft.sign(&pair.key).await;
    assert!(
        !pair
            .at_token_endpoint("a token request with `ath`", &[&with_hash])
            .await
    );
    for ath in [json!(digest("another token")), json!(""), Value::Null] {
        let mut draft = Draft::for_api(&pair.key, &pair.token);
        draft.claims["ath"] = ath;
        let proof = draft.sign(&pair.key).await;
        assert!(!pair.at_api("a proof for another token", &[&proof]));
    }

    let proof = Draft::new(&pair.key).sign(&pair.key).await;
    assert!(pair.at_token_endpoint("a new proof", &[&proof]).await);
    assert!(!pair.at_token_endpoint("a used proof", &[&proof]).await);
    let proof = Draft::for_api(&pair.key, &pair.token).sign(&pair.key).await;
    assert!(pair.at_api("a new proof", &[&proof]));
    assert!(!pair.at_api("a used proof", &[&proof]));
    let two = [Draft::new(&pair.key), Draft::new(&pair.key)];
    let two = [two[0].sign(&pair.key).await, two[1].sign(&pair.key).await];
    assert!(
        !pair
            .at_token_endpoint("two proofs", &[&two[0], &two[1]])
            .await
    );
    assert!(!pair.at_api("no proof", &[]));

    let other = SigningKey::generate(SigningAlgorithm::EdDSA).unwrap();
    let proof = Draft::for_api(&other, &pair.token).sign(&other).await;
    assert!(!pair.at_api("a proof of another key", &[&proof]));
    let proof = Draft::for_api(&pair.key, &pair.token).sign(&other).await;
    assert!(!pair.at_api("a signature of another key", &[&proof]));
}

#[tokio::test]
async fn judge_and_server_refuse_every_changed_character() {
    hide_refusals();
    let pair = Pair::new(SigningAlgorithm::ES256).await;
    let valid = Draft::new(&pair.key).sign(&pair.key).await;
    for at in 0..valid.len() {
        for replacement in ["A", "z", "=", "."] {
            if &valid[at..=at] == replacement {
                continue;
            }
            let mut changed = valid.clone();
            changed.replace_range(at..=at, replacement);
            let accepted = pair.at_token_endpoint("a changed proof", &[&changed]).await;
            assert!(!accepted, "{at} {replacement}");
        }
        let shorter = &valid[..at];
        assert!(
            !pair.at_token_endpoint("a cut proof", &[shorter]).await,
            "{at}"
        );
    }
    assert!(pair.at_token_endpoint("the proof itself", &[&valid]).await);
}

/// The judge checks the proofs of this crate, which have nothing optional. The server follows the RFC.
#[tokio::test]
async fn server_alone_accepts_what_the_rfc_allows_and_this_crate_does_not_send() {
    let allowed: [(&str, Change); 6] = [
        ("another claim (§4.2)", |d| d.claims["x"] = 1.into()),
        ("another header member", |d| d.header["kid"] = "1".into()),
        ("a fraction of a second", |d| {
            d.claims["iat"] = json!(unix_now() as f64 - 0.5)
        }),
        ("a clock that is ahead a little", |d| {
            d.claims["iat"] = json!(unix_now() + 3)
        }),
        ("a host in upper case", |d| {
            d.claims["htu"] = "HTTPS://AS.test/token".into()
        }),
        ("the default port", |d| {
            d.claims["htu"] = "https://as.test:443/token".into()
        }),
    ];
    let server = AuthorizationServer::new();
    let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
    for (what, change) in allowed {
        let mut draft = Draft::new(&key);
        change(&mut draft);
        let answer = ask(&server, &[&draft.sign(&key).await]).await;
        assert_eq!(answer.status(), StatusCode::OK, "{what}: {}", answer.body());
    }
}

fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("client", "secret")
}

fn endpoint(server: &AuthorizationServer, key: &DpopKey) -> TokenEndpoint<AuthorizationServer> {
    TokenEndpoint::new(server.clone(), server.token_endpoint(), client()).dpop(key.clone())
}

fn source(server: &AuthorizationServer, key: &DpopKey) -> TokenSource {
    TokenCache::new(endpoint(server, key)).source(TokenRequest::client_credentials())
}

fn public_endpoint(
    server: &AuthorizationServer,
    key: &DpopKey,
) -> TokenEndpoint<AuthorizationServer> {
    let client = ClientAuthentication::none("cli");
    TokenEndpoint::new(server.clone(), server.token_endpoint(), client).dpop(key.clone())
}

/// Calls an API that checks bound tokens with the server.
async fn call(server: &AuthorizationServer, source: &TokenSource) -> StatusCode {
    let checked = server.clone();
    let api = service_fn(move |request: Request<Full<Bytes>>| {
        let response = match checked.check_dpop(&request) {
            Ok(()) => Response::new(Full::default()),
            Err(refusal) => refusal,
        };
        async move { Ok::<_, BoxError>(response) }
    });
    let layer = AddAccessTokenLayer::new(source.clone())
        .origin(API)
        .unwrap();
    let api = ServiceBuilder::new()
        .layer(layer.resend(CloneBody))
        .service(api);
    let request = Request::get(API).body(Full::default()).unwrap();
    api.oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn bound_tokens_are_introspected_and_not_accepted_as_bearer_tokens() {
    let server = AuthorizationServer::new();
    let key = DpopKey::generate().unwrap();
    let source = source(&server, &key);
    let token = source.token().await.unwrap();
    assert_eq!(token.token_type().as_str(), "DPoP");
    let introspected = server.introspect(token.expose_secret());
    assert_eq!(introspected["cnf"]["jkt"], key.thumbprint());
    assert_eq!(introspected["token_type"], "DPoP");
    assert_eq!(call(&server, &source).await, StatusCode::OK);

    let mut as_bearer = HeaderMap::new();
    let value = format!("Bearer {}", token.expose_secret());
    as_bearer.insert(header::AUTHORIZATION, value.parse().unwrap());
    let refusal = server.check_bearer(&as_bearer).unwrap_err();
    assert!(challenge(&refusal).contains("invalid_token"));

    let unbound = server.issue_access_token("client", "");
    assert!(server.introspect(&unbound).get("cnf").is_none());
    let refusal = server.check_dpop(&api_request(&[], &unbound)).unwrap_err();
    assert!(challenge(&refusal).contains("invalid_token"));
}

#[tokio::test]
async fn refusals_of_the_api_name_the_error_and_the_algorithms() {
    let pair = Pair::new(SigningAlgorithm::ES256).await;
    let check = |request: &Request<()>| {
        let refusal = pair.server.check_dpop(request).unwrap_err();
        (refusal.status().as_u16(), challenge(&refusal).to_owned())
    };
    let (status, none) = check(&Request::get(API).body(()).unwrap());
    assert_eq!(status, 401);
    assert!(none.starts_with("DPoP algs=\"ES256 ES384 EdDSA "), "{none}");
    let (status, no_proof) = check(&api_request(&[], &pair.token));
    assert_eq!(status, 401);
    assert!(no_proof.starts_with("DPoP error=\"invalid_dpop_proof\", error_description="));
    assert!(no_proof.contains("algs=\"ES256 "));

    let other = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
    let proof = Draft::for_api(&other, &pair.token).sign(&other).await;
    assert!(
        check(&api_request(&[&proof], &pair.token))
            .1
            .contains("\"invalid_token\"")
    );
    pair.server.revoke_all();
    let proof = Draft::for_api(&pair.key, &pair.token).sign(&pair.key).await;
    assert!(
        check(&api_request(&[&proof], &pair.token))
            .1
            .contains("\"invalid_token\"")
    );

    let mut twice = api_request(&[], &pair.token);
    twice
        .headers_mut()
        .append(header::AUTHORIZATION, HeaderValue::from_static("DPoP x"));
    let (status, twice) = check(&twice);
    assert_eq!(status, 400);
    assert!(twice.contains("invalid_request"));
}

#[tokio::test]
async fn nonces_are_demanded_and_rotated_at_both_places() {
    let server = AuthorizationServer::new();
    let key = DpopKey::generate().unwrap();
    server.rotate_dpop_nonces(); // no effect: nobody demands nonces
    let source = source(&server, &key);
    source.token().await.unwrap();
    assert_eq!(server.token_requests(), 1);

    server.demand_dpop_nonces(true);
    assert_eq!(call(&server, &source).await, StatusCode::OK);
    let fetch = || endpoint(&server, &key).oneshot(TokenRequest::client_credentials());
    fetch().await.unwrap();
    assert_eq!(
        server.token_requests(),
        3,
        "one is refused, which tells the nonce"
    );
    fetch().await.unwrap();
    assert_eq!(server.token_requests(), 4, "the nonce is known");
    server.rotate_dpop_nonces();
    assert_eq!(call(&server, &source).await, StatusCode::OK);
    fetch().await.unwrap();
    assert_eq!(server.token_requests(), 6);
    server.demand_dpop_nonces(false);
    assert_eq!(call(&server, &source).await, StatusCode::OK);
    fetch().await.unwrap();
    assert_eq!(server.token_requests(), 7);
}

#[tokio::test]
async fn demand_for_a_nonce_comes_with_it_and_processes_nothing() {
    let server = AuthorizationServer::new();
    server.demand_dpop_nonces(true);
    let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
    let refused = ask(&server, &[&Draft::new(&key).sign(&key).await]).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(refused.body()["error"], "use_dpop_nonce");
    assert_eq!(server.issued(), 0);
    let nonce = refused.headers()["dpop-nonce"].to_str().unwrap();

    for (wrong, code) in [
        (json!("nonce-of-another"), "use_dpop_nonce"),
        (json!(7), "invalid_dpop_proof"),
    ] {
        let mut draft = Draft::new(&key);
        draft.claims["nonce"] = wrong;
        let refused = ask(&server, &[&draft.sign(&key).await]).await;
        assert_eq!(refused.body()["error"], code);
    }
    let mut draft = Draft::new(&key);
    draft.claims["nonce"] = nonce.into();
    let granted = ask(&server, &[&draft.sign(&key).await]).await;
    assert_eq!(granted.status(), StatusCode::OK);
    assert_eq!(granted.headers()["dpop-nonce"], nonce);

    // The nonce of the token endpoint is not one of the API.
    let token = granted.body()["access_token"].as_str().unwrap();
    let mut draft = Draft::for_api(&key, token);
    draft.claims["nonce"] = nonce.into();
    let request = api_request(&[&draft.sign(&key).await], token);
    let refusal = server.check_dpop(&request).unwrap_err();
    assert!(challenge(&refusal).starts_with("DPoP error=\"use_dpop_nonce\""));
    let mut draft = Draft::for_api(&key, token);
    draft.claims["nonce"] = refusal.headers()["dpop-nonce"].to_str().unwrap().into();
    let request = api_request(&[&draft.sign(&key).await], token);
    assert!(server.check_dpop(&request).is_ok());
}

#[tokio::test]
async fn refresh_tokens_of_public_clients_are_bound_to_the_key() {
    let server = AuthorizationServer::builder()
        .public_client("cli")
        .client("client", "secret")
        .build();
    let keys = [DpopKey::generate().unwrap(), DpopKey::generate().unwrap()];
    let code = |id| server.issue_code(AuthorizationCode::new(id, "https://app.test/cb"));
    let redeem = |code| TokenRequest::authorization_code(code, "https://app.test/cb");
    let refresh = |response: &TokenResponse| {
        TokenRequest::refresh_token(response.refresh_token().unwrap().clone())
    };

    let first = public_endpoint(&server, &keys[0])
        .oneshot(redeem(code("cli")))
        .await
        .unwrap();
    let with_another_key = public_endpoint(&server, &keys[1])
        .oneshot(refresh(&first))
        .await;
    assert_eq!(
        with_another_key
            .unwrap_err()
            .error_response()
            .unwrap()
            .code()
            .as_str(),
        "invalid_grant"
    );
    let second = public_endpoint(&server, &keys[0])
        .oneshot(refresh(&first))
        .await
        .unwrap();
    assert_eq!(jkt(&server, second.access_token()), keys[0].thumbprint());

    // A confidential client authenticates anyway, so it may change its key.
    let first = endpoint(&server, &keys[0])
        .oneshot(redeem(code("client")))
        .await
        .unwrap();
    let second = endpoint(&server, &keys[1])
        .oneshot(refresh(&first))
        .await
        .unwrap();
    assert_eq!(jkt(&server, second.access_token()), keys[1].thumbprint());
}

fn jkt(server: &AuthorizationServer, token: &AccessToken) -> String {
    let introspected = server.introspect(token.expose_secret());
    introspected["cnf"]["jkt"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn proofs_are_checked_over_a_connection_and_with_an_issuer_of_its_own() {
    let issuers = [
        AuthorizationServer::builder(),
        AuthorizationServer::builder().issuer(http::Uri::from_static("https://id.test")),
    ];
    for builder in issuers {
        let server = builder.start().await.unwrap();
        let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let key = DpopKey::generate().unwrap();
        let endpoint =
            TokenEndpoint::new(http, server.token_endpoint(), client()).dpop(key.clone());
        let source = TokenCache::new(endpoint).source(TokenRequest::client_credentials());
        assert_eq!(
            jkt(&server, &source.token().await.unwrap()),
            key.thumbprint()
        );
        assert_eq!(call(&server, &source).await, StatusCode::OK);
    }
}

/// As a handler of a server over HTTP/1.1 receives it.
#[tokio::test]
async fn request_without_an_authority_is_checked_by_its_host() {
    let pair = Pair::new(SigningAlgorithm::ES256).await;
    for (host, accepted) in [("api.test", true), ("other.test", false)] {
        let mut draft = Draft::for_api(&pair.key, &pair.token);
        draft.claims["htu"] = "http://api.test/orders".into();
        let mut request = Request::get("/orders?page=1")
            .header("host", host)
            .body(())
            .unwrap();
        let proof = draft.sign(&pair.key).await;
        request
            .headers_mut()
            .extend(headers(&[&proof], Some(&pair.token)));
        assert_eq!(pair.server.check_dpop(&request).is_ok(), accepted, "{host}");
    }
}

#[tokio::test]
async fn metadata_names_the_algorithms() {
    let server = AuthorizationServer::new();
    let endpoint = TokenEndpoint::discover(server.clone(), server.issuer(), client());
    let key = DpopKey::generate().unwrap();
    let metadata = endpoint.metadata().await.unwrap();
    let algorithms = metadata.dpop_signing_alg_values_supported().unwrap();
    assert_eq!(algorithms, ALGORITHMS.map(SigningAlgorithm::as_str));
    let response = endpoint
        .dpop(key)
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap();
    assert_eq!(response.token_type().as_str(), "DPoP");
}
