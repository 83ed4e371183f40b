//! DPoP at the token endpoint, and the contents of proofs (RFC 9449), checked with a third-party library.

mod dpop_support;
mod support;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use proptest::prelude::*;
use tokio_test::block_on;
use tower::{ServiceExt, retry::Retry};
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, ClientAuthentication, Credential, DpopKey, ErrorCode,
    TokenCache, TokenEndpoint, TokenErrorKind, TokenRequest, TokenSource, TokenType,
    add_access_token::CloneBody,
    jwt::{PublicKey, SignFuture, Signer, SigningAlgorithm, SigningKey},
    token_endpoint::RetryTransient,
};
use url::Url;

use self::{
    dpop_support::{Judge, Remote},
    support::{Answer, Loopback, Recorder, Script, URI, answer, form, hyper_client},
};

const DPOP_TOKEN: &str = r#"{"access_token":"T","token_type":"DPoP","expires_in":3600}"#;

fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("c", "s")
}

fn request() -> TokenRequest {
    TokenRequest::client_credentials()
}

fn key() -> DpopKey {
    DpopKey::generate().unwrap()
}

fn with_nonce(answer: Answer, nonce: &str) -> Answer {
    let mut answer = answer?;
    let nonce = HeaderValue::from_str(nonce)?;
    answer.headers_mut().insert("dpop-nonce", nonce);
    Ok(answer)
}

fn demand(status: u16, nonce: &str) -> Answer {
    with_nonce(answer(status, r#"{"error":"use_dpop_nonce"}"#), nonce)
}

fn parameter(request: &Request<Bytes>, name: &str) -> Option<String> {
    let mut pairs = form(request.body()).into_iter();
    pairs.find(|(n, _)| n == name).map(|(_, value)| value)
}

/// Returns a client with a new assertion for each request.
fn counting_client() -> ClientAuthentication {
    let calls = Arc::new(AtomicUsize::new(0));
    let assertion = Credential::from_fn(move || {
        let number = calls.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, std::convert::Infallible>(format!("assertion-{number}")) }
    });
    ClientAuthentication::client_assertion("c", assertion)
}

fn clients() -> [ClientAuthentication; 2] {
    let key = SigningKey::generate(SigningAlgorithm::EdDSA).unwrap();
    [
        counting_client(),
        ClientAuthentication::private_key_jwt("c", key),
    ]
}

#[tokio::test]
async fn a_token_request_carries_a_proof_with_every_algorithm() {
    use SigningAlgorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let judge = Judge::new();
    for algorithm in [
        RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA,
    ] {
        let key = DpopKey::new(SigningKey::generate(algorithm).unwrap()).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        let recorder = Recorder::new(|_| answer(200, DPOP_TOKEN));
        let endpoint = TokenEndpoint::new(
            recorder.clone(),
            "https://AS.example:443/token?tenant=1",
            client(),
        )
        .dpop(key.clone());
        let response = endpoint.oneshot(request()).await.unwrap();
        let token = response.access_token();
        assert_eq!(token.authorization().unwrap(), "DPoP T");
        assert_eq!(token.dpop_key(), Some(&key));
        let sent = recorder.take_one();
        assert_eq!(sent.uri(), "https://AS.example:443/token?tenant=1");
        assert_eq!(judge.token_request(sent.headers(), URI, &key), None);
    }
}

#[tokio::test]
async fn the_key_of_a_request_takes_precedence_over_that_of_the_endpoint() {
    let (judge, recorder) = (Judge::new(), Recorder::new(|_| answer(200, DPOP_TOKEN)));
    let (common, own) = (key(), key());
    let endpoint = recorder.endpoint(client()).dpop(common);
    let response = endpoint.oneshot(request().dpop(own.clone())).await.unwrap();
    assert_eq!(response.access_token().dpop_key(), Some(&own));
    judge.token_request(recorder.take_one().headers(), URI, &own);

    let response = recorder
        .endpoint(client())
        .oneshot(request().dpop(own.clone()))
        .await
        .unwrap();
    assert_eq!(response.access_token().dpop_key(), Some(&own));
    judge.token_request(recorder.take_one().headers(), URI, &own);
}

/// Row 18 of the project's list of bugs in other clients (Duende foss #323): a retry reused proof and assertion.
#[tokio::test(start_paused = true)]
async fn every_attempt_has_a_new_proof_and_a_new_assertion() {
    for client in clients() {
        let (judge, key) = (Judge::new(), key());
        let recorder = Recorder::new(|number| match number {
            0 | 1 => answer(503, ""),
            2 => Err("reset".into()),
            _ => answer(200, DPOP_TOKEN),
        });
        let endpoint = recorder.endpoint(client).dpop(key.clone());
        let endpoint = Retry::new(RetryTransient::new(), endpoint);
        endpoint.oneshot(request()).await.unwrap();
        let sent = recorder.take();
        let assertions: HashSet<_> = sent
            .iter()
            .map(|sent| {
                judge.token_request(sent.headers(), URI, &key);
                parameter(sent, "client_assertion").unwrap()
            })
            .collect();
        assert_eq!((sent.len(), assertions.len()), (4, 4));
    }
}

mod nonce {
    use super::*;

    /// Returns the responses with which servers demand a nonce.
    fn demands() -> Vec<Answer> {
        vec![
            demand(400, "n1"),
            demand(401, "n1"),
            with_nonce(answer(400, r#"{"error":{"code":"use_dpop_nonce"}}"#), "n1"),
            with_nonce(answer(401, "<html>"), "n1"),
        ]
    }

    #[tokio::test]
    async fn a_demand_is_answered_once_with_a_new_proof_and_a_new_assertion() {
        for client in clients() {
            for which in 0..demands().len() {
                let (judge, key) = (Judge::new(), key());
                let recorder = Recorder::new(move |number| match number {
                    0 => demands().swap_remove(which),
                    _ => with_nonce(answer(200, DPOP_TOKEN), "n2"),
                });
                let endpoint = recorder.endpoint(client.clone()).dpop(key.clone());
                for expected in [&[None, Some("n1")][..], &[Some("n2")]] {
                    let response = endpoint.clone().oneshot(request()).await.unwrap();
                    assert_eq!(response.access_token().dpop_key(), Some(&key));
                    let sent = recorder.take();
                    let nonces: Vec<_> = sent
                        .iter()
                        .map(|sent| judge.token_request(sent.headers(), URI, &key))
                        .collect();
                    let nonces: Vec<_> = nonces.iter().map(Option::as_deref).collect();
                    assert_eq!(nonces, expected, "the 200 response sets the next nonce");
                    let assertions: HashSet<_> = sent
                        .iter()
                        .map(|sent| parameter(sent, "client_assertion").unwrap())
                        .collect();
                    assert_eq!(assertions.len(), sent.len());
                }
            }
        }
    }

    /// Row 20 (requests_oauth2client retries forever).
    #[tokio::test]
    async fn a_second_demand_is_an_error_and_its_nonce_is_remembered() {
        let (judge, key) = (Judge::new(), key());
        let recorder = Recorder::new(|number| match number {
            0 => demand(400, "n1"),
            1 => demand(400, "n2"),
            _ => answer(200, DPOP_TOKEN),
        });
        let endpoint = recorder.endpoint(client()).dpop(key.clone());
        let error = endpoint.clone().oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
        let code = error.error_response().unwrap().code();
        assert_eq!(*code, ErrorCode::USE_DPOP_NONCE);
        assert_eq!(recorder.take().len(), 2);

        endpoint.oneshot(request()).await.unwrap();
        let sent = recorder.take_one();
        let nonce = judge.token_request(sent.headers(), URI, &key);
        assert_eq!(nonce.as_deref(), Some("n2"));
    }

    /// A rotating nonce (glewlwyd rotates it every five uses) can expire before the second request arrives.
    #[tokio::test(start_paused = true)]
    async fn a_second_demand_is_transient_and_proves_that_nothing_was_processed() {
        let recorder = || {
            Recorder::new(|number| match number {
                0 => demand(400, "n1"),
                1 => demand(401, "n2"),
                _ => answer(200, DPOP_TOKEN),
            })
        };
        let code = || TokenRequest::authorization_code("code", "https://c.example/cb");
        let endpoint = recorder().endpoint(client()).dpop(key());
        let error = endpoint.oneshot(code()).await.unwrap_err();
        assert!(error.is_transient() && !error.may_have_been_processed());

        let retried = recorder();
        let endpoint = retried.endpoint(client()).dpop(key());
        let retry = Retry::new(RetryTransient::new(), endpoint);
        retry.oneshot(code()).await.unwrap();
        assert_eq!(retried.take().len(), 3);

        let cached = recorder();
        let tokens = TokenCache::new(cached.endpoint(client()).dpop(key()));
        let source = tokens.source(request());
        assert!(source.token().await.unwrap_err().is_transient());
        source.renew().await.unwrap();
        assert_eq!(cached.take().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_always_demands_another_nonce_costs_two_requests_per_fetch() {
        let recorder = Recorder::new(|number| demand(400, &format!("n{number}")));
        let tokens = TokenCache::new(recorder.endpoint(client()).dpop(key()));
        let source = tokens.source(request());
        for _ in 0..3 {
            source.renew().await.unwrap_err();
            assert_eq!(recorder.take().len(), 2);
        }
    }

    type AnswerFn = fn() -> Answer;

    /// A code must not be sent twice only because a response carries a nonce (row 28).
    #[tokio::test]
    async fn a_request_is_not_sent_again_without_a_demand() {
        let refusals: [(&str, AnswerFn); 7] = [
            ("another error", || {
                with_nonce(answer(400, r#"{"error":"invalid_grant"}"#), "n1")
            }),
            ("an invalid proof", || {
                with_nonce(answer(400, r#"{"error":"invalid_dpop_proof"}"#), "n1")
            }),
            ("no nonce", || answer(400, r#"{"error":"use_dpop_nonce"}"#)),
            ("an invalid nonce", || demand(400, "not \"a\" nonce")),
            ("a server error", || with_nonce(answer(500, ""), "n1")),
            ("forbidden", || demand(403, "n1")),
            ("an error with status 200", || {
                with_nonce(answer(200, r#"{"error":"use_dpop_nonce"}"#), "n1")
            }),
        ];
        for (case, refusal) in refusals {
            for request in [
                TokenRequest::authorization_code("code", "https://c.example/cb"),
                TokenRequest::refresh_token("rt"),
            ] {
                let recorder = Recorder::new(move |_| refusal());
                let endpoint = recorder.endpoint(client()).dpop(key());
                let error = endpoint.oneshot(request).await.unwrap_err();
                assert_eq!(recorder.take().len(), 1, "{case}");
                assert!(error.may_have_been_processed(), "{case}");
            }
        }
    }

    #[tokio::test]
    async fn a_truncated_response_is_not_a_demand() {
        // The error is unknown; it may have been `invalid_grant`.
        let broken =
            "HTTP/1.1 400 X\r\ncontent-length: 99\r\ndpop-nonce: n1\r\n\r\n{\"error\":\"inv";
        let server = Loopback::start(move |_| Script::new(broken, support::Then::Close)).await;
        let endpoint = TokenEndpoint::new(hyper_client(), server.uri(), client()).dpop(key());
        let code = TokenRequest::authorization_code("code", "https://c.example/cb");
        endpoint.oneshot(code).await.unwrap_err();
        assert_eq!(server.requests().len(), 1);
    }

    #[tokio::test]
    async fn a_code_and_a_refresh_token_are_sent_again_after_a_demand() {
        for (name, request) in [
            (
                "code",
                TokenRequest::authorization_code("one-time", "https://c.example/cb"),
            ),
            ("refresh_token", TokenRequest::refresh_token("one-time")),
        ] {
            let recorder = Recorder::new(|number| match number {
                0 => demand(400, "n1"),
                _ => answer(200, DPOP_TOKEN),
            });
            let endpoint = recorder.endpoint(client()).dpop(key());
            endpoint.oneshot(request).await.unwrap();
            let sent = recorder.take();
            assert_eq!(sent.len(), 2);
            for sent in sent {
                assert_eq!(parameter(&sent, name).unwrap(), "one-time");
            }
        }
    }

    #[tokio::test]
    async fn a_request_without_a_key_is_not_sent_again() {
        let recorder = Recorder::new(|_| demand(400, "n1"));
        let endpoint = recorder.endpoint(counting_client());
        endpoint.oneshot(request()).await.unwrap_err();
        assert!(!recorder.take_one().headers().contains_key("dpop"));
    }

    #[tokio::test]
    async fn nonces_are_per_origin_and_per_role() {
        let (judge, key) = (Judge::new(), key());
        let recorder =
            Recorder::new(|number| with_nonce(answer(200, DPOP_TOKEN), &format!("n{number}")));
        let endpoint = recorder.endpoint(client()).dpop(key.clone());
        let other = "https://other.example/token";
        let mut nonces = Vec::new();
        for uri in [URI, other, "https://as.example:443/elsewhere", other] {
            let request = request().token_endpoint(uri);
            endpoint.clone().oneshot(request).await.unwrap();
            let sent = recorder.take_one();
            let htu = uri.replace(":443", "");
            nonces.push(judge.token_request(sent.headers(), &htu, &key));
        }
        let nonces: Vec<_> = nonces.iter().map(Option::as_deref).collect();
        assert_eq!(nonces, [None, None, Some("n0"), Some("n1")]);

        // An API at the same origin has separate nonces.
        let token = AccessToken::new("T", TokenType::DPOP).unwrap();
        let uri = Uri::from_static(URI);
        for (token, expected) in [(Some(&token), None), (None, Some("n2"))] {
            let proof = key.proof(&Method::GET, &uri, token).await.unwrap();
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static("dpop"), proof)]);
            assert_eq!(judge.read(&headers, "GET").nonce.as_deref(), expected);
        }
    }
}

mod downgrade {
    use super::*;

    fn with_token_type(token_type: &str) -> Recorder {
        let body = format!(r#"{{"access_token":"T"{token_type}}}"#);
        Recorder::new(move |_| answer(200, body.clone()))
    }

    const BEARER: &str = r#","token_type":"bEaRer""#;

    #[tokio::test]
    async fn a_bearer_token_is_an_error_if_a_bound_one_was_requested() {
        let endpoint = with_token_type(BEARER).endpoint(client()).dpop(key());
        let error = endpoint.oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::UnsupportedTokenType);
        assert!(!error.is_transient());
        assert!(error.to_string().contains("DPoP"), "{error}");

        let endpoint = with_token_type(BEARER).endpoint(client());
        let error = endpoint.oneshot(request().dpop(key())).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::UnsupportedTokenType);
    }

    #[tokio::test]
    async fn an_allowed_bearer_token_is_sent_as_a_bearer_token() {
        let endpoint = with_token_type(BEARER).endpoint(client()).dpop(key());
        let endpoint = endpoint.danger_allow_bearer();
        let response = endpoint.oneshot(request()).await.unwrap();
        let token = response.access_token().clone();
        assert_eq!(token.dpop_key(), None);

        let api = Recorder::new(|_| answer(200, ""));
        let call = Request::get("https://api.example/").body(Full::default());
        let call = call.unwrap();
        let layer = AddAccessTokenLayer::new(TokenSource::fixed(token)).resend(CloneBody);
        let layer = layer.origin(call.uri()).unwrap();
        tower::Layer::layer(&layer, api.clone())
            .oneshot(call)
            .await
            .unwrap();
        let sent = api.take_one();
        assert_eq!(sent.headers()["authorization"], "Bearer T");
        assert!(!sent.headers().contains_key("dpop"));
    }

    #[tokio::test]
    async fn other_token_types_are_kept() {
        for (token_type, expected, bound) in [
            ("", "DPoP", true),
            (r#","token_type":"dpop""#, "DPoP", true),
            (r#","token_type":"N_A""#, "N_A", false),
            (r#","token_type":"mac""#, "mac", false),
        ] {
            let key = key();
            let endpoint = with_token_type(token_type)
                .endpoint(client())
                .dpop(key.clone());
            let response = endpoint.oneshot(request()).await.unwrap();
            let token = response.access_token();
            assert_eq!(*token.token_type(), TokenType::from(expected));
            assert_eq!(token.dpop_key(), bound.then_some(&key), "{token_type}");
        }
        let response = with_token_type("")
            .endpoint(client())
            .oneshot(request())
            .await;
        let response = response.unwrap();
        assert_eq!(*response.access_token().token_type(), TokenType::BEARER);
    }
}

mod signers {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_remote_signer_can_sign_the_proof() {
        let (judge, remote) = (Judge::new(), Remote::new(1));
        let control = remote.control.clone();
        let key = DpopKey::new(remote).unwrap();
        let recorder = Recorder::new(|_| answer(200, DPOP_TOKEN));
        let endpoint = recorder.endpoint(client()).dpop(key.clone());
        endpoint.oneshot(request()).await.unwrap();
        judge.token_request(recorder.take_one().headers(), URI, &key);
        assert_eq!(control.asked(), 1);
    }

    #[tokio::test]
    async fn nothing_is_sent_without_a_proof() {
        let remote = Remote::new(1);
        remote.control.fails.store(true, Ordering::SeqCst);
        let recorder = Recorder::new(|_| answer(200, DPOP_TOKEN));
        let key = DpopKey::new(remote).unwrap();
        let endpoint = recorder.endpoint(client()).dpop(key);
        let error = endpoint.oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Credential);
        assert!(!error.may_have_been_processed());
        let source = std::error::Error::source(&error).unwrap();
        let source = source.source().unwrap();
        assert_eq!(source.to_string(), "the HSM is on fire");
        assert_eq!(recorder.calls(), 0);
    }

    /// A signer with an arbitrary algorithm and public key.
    struct FakeSigner(SigningAlgorithm, Option<PublicKey>);

    impl Signer for FakeSigner {
        fn algorithm(&self) -> SigningAlgorithm {
            self.0
        }

        fn public_key(&self) -> Option<&PublicKey> {
            self.1.as_ref()
        }

        fn sign<'a>(&'a self, _: &'a [u8]) -> SignFuture<'a> {
            Box::pin(async { Ok(vec![0; 64]) })
        }
    }

    #[test]
    fn a_signer_that_cannot_sign_proofs_is_refused() {
        let public = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
        let public = public.public_key().cloned();
        for (signer, why) in [
            (FakeSigner(SigningAlgorithm::ES256, None), "public key"),
            (FakeSigner(SigningAlgorithm::HS256, public.clone()), "HS256"),
            (FakeSigner(SigningAlgorithm::ES384, public.clone()), "P-256"),
            (FakeSigner(SigningAlgorithm::PS256, public), "P-256"),
        ] {
            let error = DpopKey::new(signer).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[tokio::test]
    async fn a_dpop_header_of_the_caller_is_refused_if_there_is_a_key() {
        let recorder = Recorder::good();
        let endpoint = recorder.endpoint(client()).dpop(key());
        let request = request().header("DPoP", "mine");
        let error = endpoint.oneshot(request).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request);
        assert_eq!(recorder.calls(), 0);
    }
}

mod vectors {
    use super::*;

    /// RFC 9449 §4.1 and §6.1.
    #[test]
    fn the_thumbprint_matches_the_rfc() {
        let jwk = r#"{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
            "y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}"#;
        let key = PublicKey::from_jwk(jwk).unwrap();
        let expected = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
        assert_eq!(key.thumbprint(), expected);
    }

    /// RFC 9449 §7.1.
    #[tokio::test]
    async fn the_token_hash_matches_the_rfc() {
        let (judge, key) = (Judge::new(), key());
        let text = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
        let token = AccessToken::new(text, TokenType::DPOP).unwrap();
        let uri = Uri::from_static("https://resource.example.org/protectedresource");
        let proof = key.proof(&Method::GET, &uri, Some(&token)).await.unwrap();
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("dpop"), proof)]);
        let proof = judge.read(&headers, "GET");
        let expected = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo";
        assert_eq!(proof.ath.as_deref(), Some(expected));
        assert_eq!(proof.htu, uri.to_string());
    }
}

mod htu {
    use super::*;

    async fn htu_of(key: &DpopKey, uri: &Uri) -> String {
        let judge = Judge::new();
        let proof = key.proof(&Method::PUT, uri, None).await.unwrap();
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("dpop"), proof)]);
        judge.read(&headers, "PUT").htu
    }

    #[derive(Clone, Debug)]
    struct Parts {
        scheme: String,
        userinfo: String,
        host: String,
        port: Option<String>,
        path: String,
        rest: String,
    }

    impl Parts {
        fn uri(&self) -> String {
            let port = self.port.as_deref().map(|port| format!(":{port}"));
            let port = port.unwrap_or_default();
            let Self {
                scheme,
                userinfo,
                host,
                path,
                rest,
                ..
            } = self;
            format!("{scheme}://{userinfo}{host}{port}{path}{rest}")
        }

        /// Returns the URI as a server sees it, with scheme, host and port from the connection and the path as it was sent.
        fn as_seen_by_the_server(&self) -> String {
            let scheme = self.scheme.to_lowercase();
            let host = self.host.to_lowercase();
            let port = self.port.as_deref().unwrap_or_default();
            let port = match (&*scheme, port.trim_start_matches('0')) {
                (_, "") | ("http", "80") | ("https", "443") => String::new(),
                (_, port) => format!(":{port}"),
            };
            let path = if self.path.is_empty() {
                "/"
            } else {
                &self.path
            };
            format!("{scheme}://{host}{port}{path}")
        }
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let segment = prop_oneof![
            r"[a-zA-Z0-9._~!$&'()*+,;=:@-]{0,6}",
            r#"[a-z"{}|^`\[\]\\<>é漢]{0,4}"#,
            Just(".".to_owned()),
            Just("..".to_owned()),
            r"(%[0-9a-fA-F]{2}|%2[eEfF]|%3[fF]|%7[eE]){1,3}",
        ];
        let path = prop::collection::vec(segment, 0..5).prop_map(|segments| {
            let segments = segments.iter().map(|segment| format!("/{segment}"));
            segments.collect::<String>()
        });
        let host = prop_oneof![
            r"[a-zA-Z][a-zA-Z0-9]{0,5}(-[a-z0-9]{1,3})?(\.[a-zA-Z]{2,4}){0,2}\.?",
            Just("127.0.0.1".to_owned()),
            Just("[::1]".to_owned()),
            Just("[2001:DB8::A]".to_owned()),
            Just("xn--bcher-kva.Example".to_owned()),
        ];
        let port = prop_oneof![
            Just(None),
            Just(Some(String::new())),
            Just(Some("443".to_owned())),
            Just(Some("80".to_owned())),
            Just(Some("0443".to_owned())),
            (1_u16..).prop_map(|port| Some(port.to_string())),
        ];
        (
            "[hH][tT]{2}[pP][sS]?",
            prop_oneof![4 => Just(""), 1 => Just("user@"), 1 => Just("user:p%40ss@")],
            host,
            port,
            path,
            r"(\?[a-z/?=&%:@.]{0,6})?(#[a-z/?]{0,4})?",
        )
            .prop_map(|(scheme, userinfo, host, port, path, rest)| Parts {
                scheme,
                userinfo: userinfo.to_owned(),
                host,
                port,
                path,
                rest,
            })
    }

    /// Parses the URI as a strict server does, without query, fragment and user info.
    fn strict(uri: &str) -> Option<Url> {
        let mut url = Url::parse(uri).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        Some(url)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn htu_matches_what_a_strict_server_computes(parts in parts()) {
            let text = parts.uri();
            // URIs that the http crate rejects cannot occur.
            let Ok(uri) = text.parse::<Uri>() else {
                return Ok(());
            };
            let key = SigningKey::from_jwk(RFC_ED25519).unwrap();
            let htu = block_on(htu_of(&DpopKey::new(key).unwrap(), &uri));
            prop_assert_eq!(&htu, &parts.as_seen_by_the_server());
            if let Some(url) = strict(&text) {
                let origin = url.origin().ascii_serialization();
                prop_assert!(htu.starts_with(&format!("{origin}/")), "{htu} {origin}");
                // A parser that also normalizes paths does so on both sides of the comparison.
                if url.path() == parts.path {
                    prop_assert_eq!(&htu, url.as_str());
                }
                let reread = strict(&htu).map(String::from);
                prop_assert_eq!(reread, Some(String::from(url)));
            }
        }
    }

    const RFC_ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    /// The target URI of a WebSocket is that of its handshake (RFC 9110 §7.1, RFC 6455 §3), and that of `OPTIONS *` has no path.
    #[tokio::test]
    async fn websockets_and_asterisk_targets_have_an_http_htu() {
        let key = key();
        for (uri, expected) in [
            ("wss://api.example/chat?x", "https://api.example/chat"),
            ("wss://api.example:443/chat", "https://api.example/chat"),
            ("ws://127.0.0.1:80/chat", "http://127.0.0.1/chat"),
            ("ws://127.0.0.1:443/chat", "http://127.0.0.1:443/chat"),
        ] {
            assert_eq!(htu_of(&key, &uri.parse().unwrap()).await, expected);
        }
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some("https".parse().unwrap());
        parts.authority = Some("api.example".parse().unwrap());
        parts.path_and_query = Some("*".parse().unwrap());
        if let Ok(uri) = Uri::from_parts(parts) {
            assert_eq!(htu_of(&key, &uri).await, "https://api.example/");
        }
    }

    /// Compares `htu` with the request line and the `Host` header that a real server receives.
    #[tokio::test]
    async fn htu_matches_the_request_on_the_wire() {
        let server = Loopback::start(|_| Script::answer(200, "", "")).await;
        let address = server.uri();
        let authority = address.authority().unwrap();
        let key = key();
        let token = AccessToken::new("T", TokenType::DPOP).unwrap();
        let layer = AddAccessTokenLayer::new(TokenSource::fixed(token.bound_to(key.clone())));
        let layer = layer.origin(&address).unwrap();
        let api = tower::Layer::layer(&layer, hyper_client());
        for (number, path) in [
            "",
            "?q",
            "/",
            "/a/../b/./c//d/?q=/x#f",
            "/%7E%7e%2f%2F",
            "/a;p=1,2:@!$&'()*+=~",
            "/\"{}|^[]\\",
            "/é/漢",
        ]
        .into_iter()
        .enumerate()
        {
            let uri = format!("http://{authority}{path}");
            let call = Request::put(uri).body(Full::default()).unwrap();
            let _: Response<_> = api.clone().oneshot(call).await.unwrap();
            let sent = server.requests().swap_remove(number);
            let mut lines = sent.lines();
            let target = lines.next().unwrap().split(' ').nth(1).unwrap();
            let path = target.split('?').next().unwrap();
            let header = |name: &str| {
                let mut lines = sent.lines();
                let found = lines.find_map(|line| line.strip_prefix(name)).unwrap();
                found.to_owned()
            };
            let proof = header("dpop: ");
            let claims = proof.split('.').nth(1).unwrap();
            let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
            let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!(claims["htu"], format!("http://{}{path}", header("host: ")));
            assert_eq!(claims["htm"], "PUT");
        }
    }
}
