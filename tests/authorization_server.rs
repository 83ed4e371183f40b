//! Drives the test authorization server with handwritten forms.
#![cfg(feature = "test-util")]
// The rule is for `src/`; tests measure tokio's clock.
#![allow(clippy::disallowed_methods)]

use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::time::{Instant, advance, timeout};
use tower::ServiceExt;
use tower_oauth2_client::{
    ClientAuthentication, Clock, TokenCache, TokenEndpoint, TokenRequest, TokenSource,
    test_util::{AuthorizationCode, AuthorizationServer, Failure, ManualClock},
};

const FORM: &str = "application/x-www-form-urlencoded";
const REDIRECT: &str = "https://app.test/cb";
const REDIRECT_ENCODED: &str = "https%3A%2F%2Fapp.test%2Fcb";
/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const CLIENT: &str = "client_id=client&client_secret=secret";

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    async fn collect<B>(response: Response<B>) -> Self
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Debug,
    {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("an incomplete body").to_bytes();
        Self {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("not JSON")
    }

    fn string(&self, name: &str) -> String {
        self.json()[name]
            .as_str()
            .unwrap_or_else(|| panic!("no string {name:?} in {}", self.json()))
            .to_owned()
    }

    /// Returns the access token of a successful response.
    #[track_caller]
    fn token(&self) -> String {
        assert_eq!(self.status, StatusCode::OK, "{:?}", self.body);
        assert_eq!(self.headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(self.json()["token_type"], "Bearer");
        self.string("access_token")
    }

    /// Asserts that the request was refused with this error code.
    #[track_caller]
    fn refused(&self, code: &str) {
        assert_eq!(self.json()["error"], code, "{:?}", self.body);
        let status = if code == "invalid_client" { 401 } else { 400 };
        assert_eq!(self.status.as_u16(), status);
        assert!(self.json().get("access_token").is_none());
    }
}

fn post_to(uri: impl AsRef<str>, form: &str) -> Request<Full<Bytes>> {
    Request::post(uri.as_ref())
        .header(header::CONTENT_TYPE, FORM)
        .body(Full::from(form.to_owned()))
        .unwrap()
}

fn with_basic(mut request: Request<Full<Bytes>>, credentials: &str) -> Request<Full<Bytes>> {
    let value = format!("Basic {}", STANDARD.encode(credentials));
    request
        .headers_mut()
        .insert(header::AUTHORIZATION, value.parse().unwrap());
    request
}

async fn send(server: &AuthorizationServer, request: Request<Full<Bytes>>) -> Answer {
    Answer::collect(server.clone().oneshot(request).await.expect("no response")).await
}

async fn post(server: &AuthorizationServer, form: &str) -> Answer {
    send(server, post_to("https://as.test/token", form)).await
}

/// Sends a token request from the client `client` with `client_secret_post`.
async fn ask(server: &AuthorizationServer, form: &str) -> Answer {
    post(server, &format!("{form}&{CLIENT}")).await
}

async fn basic(server: &AuthorizationServer, credentials: &str, form: &str) -> Answer {
    send(
        server,
        with_basic(post_to("https://as.test/token", form), credentials),
    )
    .await
}

/// Sends a request to another endpoint from the client `client` with `client_secret_post`.
async fn post_at(server: &AuthorizationServer, path: &str, form: &str) -> Answer {
    send(
        server,
        post_to(
            format!("https://as.test{path}"),
            &format!("{form}&{CLIENT}"),
        ),
    )
    .await
}

mod client_authentication {
    use super::*;

    const CC: &str = "grant_type=client_credentials";

    #[tokio::test]
    async fn basic_is_form_decoded_strictly() {
        let server = AuthorizationServer::builder()
            .client("a b:c", "s+/%=ü")
            .build();
        basic(&server, "a+b%3Ac:s%2B%2F%25%3D%C3%BC", CC)
            .await
            .token();
        basic(&server, "a%20b%3ac:s%2b%2f%25%3d%c3%bc", CC)
            .await
            .token();
        for wrong in [
            "a b%3Ac:s%2B%2F%25%3D%C3%BC", // a raw space
            "a+b%3Ac:s+%2F%25%3D%C3%BC",   // a raw plus is a space
            "a+b%3Ac:s%2B/%25%3D%C3%BC",   // a raw slash
            "a+b%3Ac:s%2B%2F%%3D%C3%BC",   // a raw percent sign
            "a+b%3Ac:s%2B%2F%25%3D%C3",    // not UTF-8
            "a+b%3Ac",
            "",
        ] {
            let answer = basic(&server, wrong, CC).await;
            answer.refused("invalid_client");
            let challenge = answer.headers[header::WWW_AUTHENTICATE].to_str().unwrap();
            assert!(challenge.starts_with("Basic"), "{wrong}");
        }
    }

    #[tokio::test]
    async fn raw_basic_is_not_decoded() {
        let server = AuthorizationServer::builder()
            .raw_basic_client("raw", "a+b%2F:/")
            .build();
        basic(&server, "raw:a+b%2F:/", CC).await.token();
        basic(&server, "raw:a%2Bb%252F%3A%2F", CC)
            .await
            .refused("invalid_client");
        post(
            &server,
            &format!("{CC}&client_id=raw&client_secret=a%2Bb%252F%3A%2F"),
        )
        .await
        .refused("invalid_client");
    }

    #[tokio::test]
    async fn post_is_accepted_and_a_wrong_secret_gets_no_challenge() {
        let server = AuthorizationServer::new();
        ask(&server, CC).await.token();
        for wrong in [
            "client_id=client&client_secret=Secret",
            "client_id=other&client_secret=secret",
            "client_id=client",
            "client_id=client&client_secret=",
            "scope=a",
        ] {
            let answer = post(&server, &format!("{CC}&{wrong}")).await;
            answer.refused("invalid_client");
            assert!(
                !answer.headers.contains_key(header::WWW_AUTHENTICATE),
                "{wrong}"
            );
        }
        post(&server, &format!("{CC}&client_secret=secret"))
            .await
            .refused("invalid_request");
    }

    #[tokio::test]
    async fn two_methods_at_once_are_an_invalid_request() {
        let server = AuthorizationServer::new();
        let both = format!("{CC}&{CLIENT}");
        basic(&server, "client:secret", &both)
            .await
            .refused("invalid_request");
        let assertion = "client_assertion=x&client_assertion_type=\
                         urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
        ask(&server, &format!("{CC}&{assertion}"))
            .await
            .refused("invalid_request");
        basic(&server, "client:secret", &format!("{CC}&{assertion}"))
            .await
            .refused("invalid_request");
        // With Basic, the client's own `client_id` is not a second method; that of another client is a contradiction.
        basic(&server, "client:secret", &format!("{CC}&client_id=client"))
            .await
            .token();
        basic(&server, "client:secret", &format!("{CC}&client_id=other"))
            .await
            .refused("invalid_request");
    }

    #[tokio::test]
    async fn an_unknown_scheme_or_a_second_header_is_refused() {
        let server = AuthorizationServer::new();
        let mut request = post_to("https://as.test/token", CC);
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        send(&server, request).await.refused("invalid_client");

        let mut request = with_basic(post_to("https://as.test/token", CC), "client:secret");
        let second = request.headers()[header::AUTHORIZATION].clone();
        request.headers_mut().append(header::AUTHORIZATION, second);
        send(&server, request).await.refused("invalid_request");

        let mut request = post_to("https://as.test/token", CC);
        let lower = format!("basic {}", STANDARD.encode("client:secret"))
            .parse()
            .unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, lower);
        send(&server, request).await.token();
    }

    #[tokio::test]
    async fn a_public_client_sends_only_its_id_and_may_not_use_client_credentials() {
        let server = AuthorizationServer::builder()
            .public_client("cli")
            .user("u", "p")
            .build();
        let password = "grant_type=password&username=u&password=p";
        post(&server, &format!("{password}&client_id=cli"))
            .await
            .token();
        post(
            &server,
            &format!("{password}&client_id=cli&client_secret=x"),
        )
        .await
        .refused("invalid_client");
        basic(&server, "cli:x", password)
            .await
            .refused("invalid_client");
        post(&server, &format!("{CC}&client_id=cli"))
            .await
            .refused("unauthorized_client");
    }

    #[tokio::test]
    async fn a_tls_client_sends_only_its_id() {
        let server = AuthorizationServer::builder().tls_client("mtls").build();
        post(&server, &format!("{CC}&client_id=mtls")).await.token();
        post(&server, &format!("{CC}&client_id=mtls&client_secret=x"))
            .await
            .refused("invalid_client");
    }

    const JWT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
    const SAML: &str = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Asaml2-bearer";

    #[tokio::test]
    async fn a_client_assertion_is_checked_with_its_type_and_id() {
        let server = AuthorizationServer::builder()
            .assertion_client("fixed", "h.p.s")
            .assertion_client_with("checked", |assertion| assertion.starts_with("signed:"))
            .client("client", "secret")
            .build();
        let form = |assertion: &str, kind: &str, id: &str| {
            format!("{CC}&client_assertion={assertion}&client_assertion_type={kind}{id}")
        };
        post(&server, &form("h.p.s", JWT, "")).await.token();
        post(&server, &form("h.p.s", JWT, "&client_id=fixed"))
            .await
            .token();
        post(&server, &form("signed%3A1", SAML, "&client_id=checked"))
            .await
            .token();
        // Replay is allowed by default.
        post(&server, &form("h.p.s", JWT, "")).await.token();

        post(&server, &form("h.p.x", JWT, ""))
            .await
            .refused("invalid_client");
        post(&server, &form("h.p.s", JWT, "&client_id=checked"))
            .await
            .refused("invalid_client");
        post(&server, &form("h.p.s", JWT, "&client_id=client"))
            .await
            .refused("invalid_client");
        post(&server, &form("h.p.s", "jwt-bearer", ""))
            .await
            .refused("invalid_client");
        post(&server, &format!("{CC}&client_assertion=h.p.s"))
            .await
            .refused("invalid_request");
        post(
            &server,
            &format!("{CC}&client_assertion_type={JWT}&client_id=fixed"),
        )
        .await
        .refused("invalid_request");
    }

    #[tokio::test]
    async fn a_replayed_client_assertion_can_be_refused() {
        let server = AuthorizationServer::builder()
            .assertion_client_with("signer", |assertion| assertion.starts_with("jwt"))
            .refuse_replayed_assertions(true)
            .build();
        let form = |n: u8| format!("{CC}&client_assertion=jwt{n}&client_assertion_type={JWT}");
        post(&server, &form(1)).await.token();
        post(&server, &form(1)).await.refused("invalid_client");
        let invalid_scope = format!("{}&scope=%22", form(2));
        post(&server, &invalid_scope).await.refused("invalid_scope");
        post(&server, &form(2)).await.refused("invalid_client");
        post(&server, &form(3)).await.token();
    }
}

mod form {
    use super::*;

    #[tokio::test]
    async fn only_resource_and_audience_may_be_repeated() {
        let server = AuthorizationServer::new();
        let cc = "grant_type=client_credentials";
        ask(&server, &format!("{cc}&scope=a&scope=a"))
            .await
            .refused("invalid_request");
        ask(&server, &format!("{cc}&{cc}"))
            .await
            .refused("invalid_request");
        ask(&server, &format!("{cc}&x=1&x=2"))
            .await
            .refused("invalid_request");
        let many = "resource=https%3A%2F%2Fa.test&resource=urn%3Ab&audience=c&audience=d";
        ask(&server, &format!("{cc}&{many}")).await.token();
        // A parameter without a value counts as absent.
        ask(&server, &format!("{cc}&scope=a&scope=")).await.token();
    }

    #[tokio::test]
    async fn a_wrong_content_type_method_or_path_is_refused() {
        let server = AuthorizationServer::new();
        let form = format!("grant_type=client_credentials&{CLIENT}");
        for (content_type, is_accepted) in [
            (FORM, true),
            ("Application/x-www-form-urlencoded; charset=UTF-8", true),
            ("application/json", false),
            ("", false),
        ] {
            let mut request = post_to("https://as.test/token", &form);
            let value = HeaderValue::from_static(content_type);
            request.headers_mut().insert(header::CONTENT_TYPE, value);
            let answer = send(&server, request).await;
            if is_accepted {
                drop(answer.token())
            } else {
                answer.refused("invalid_request")
            }
        }

        let get = Request::get("https://as.test/token")
            .body(Full::default())
            .unwrap();
        let answer = send(&server, get).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers[header::ALLOW], "POST");
        assert_eq!(
            send(&server, post_to("https://as.test/", "")).await.status,
            StatusCode::NOT_FOUND
        );
    }

    #[tokio::test]
    async fn a_secret_in_the_query_is_refused_and_other_parameters_are_accepted() {
        let server = AuthorizationServer::new();
        let form = format!("grant_type=client_credentials&{CLIENT}");
        let secret = post_to("https://as.test/token?client_secret=secret", &form);
        send(&server, secret).await.refused("invalid_request");
        send(&server, post_to("https://as.test/token?tenant=a", &form))
            .await
            .token();
    }

    #[tokio::test]
    async fn a_body_over_the_limit_gets_a_413() {
        let server = AuthorizationServer::new();
        let answer = post(&server, &"a".repeat(1024 * 1024 + 1)).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_request_body_that_fails_is_an_error() {
        let request = Request::post("https://as.test/token").body(Broken).unwrap();
        let error = AuthorizationServer::new()
            .oneshot(request)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "torn");
    }

    struct Broken;

    impl Body for Broken {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(Some(Err(io::Error::other("torn"))))
        }
    }

    #[tokio::test]
    async fn unknown_scopes_targets_and_grant_types_get_their_own_error_codes() {
        let server = AuthorizationServer::builder()
            .scopes(["read", "write"])
            .targets(["https://a.test/", "reports"])
            .custom_grant("urn:test:grant")
            .build();
        let cc = "grant_type=client_credentials";
        let answer = ask(&server, &format!("{cc}&scope=write+read")).await;
        answer.token();
        assert_eq!(answer.string("scope"), "write read");
        for scope in ["admin", "read+admin", "read++write", "%22", "+read"] {
            ask(&server, &format!("{cc}&scope={scope}"))
                .await
                .refused("invalid_scope");
        }
        ask(
            &server,
            &format!("{cc}&resource=https%3A%2F%2Fa.test%2F&audience=reports"),
        )
        .await
        .token();
        for target in [
            "resource=https%3A%2F%2Fb.test%2F",
            "audience=x",
            "audience=reports&audience=x",
        ] {
            ask(&server, &format!("{cc}&{target}"))
                .await
                .refused("invalid_target");
        }
        let any = AuthorizationServer::new();
        ask(&any, &format!("{cc}&scope=anything+goes"))
            .await
            .token();
        for malformed in ["a++b", "+a", "a+", "%22", "%C3%BC", "a%09b", "%5C"] {
            ask(&any, &format!("{cc}&scope={malformed}"))
                .await
                .refused("invalid_scope");
        }
        ask(&server, "scope=read").await.refused("invalid_request");
        ask(&server, "grant_type=urn%3Atest%3Aother")
            .await
            .refused("unsupported_grant_type");
        ask(&server, "grant_type=urn%3Atest%3Agrant&scope=read")
            .await
            .token();
    }

    #[tokio::test]
    async fn a_resource_must_be_an_absolute_uri_without_fragment() {
        let server = AuthorizationServer::new();
        for resource in [
            "api",
            "%2Fapi",
            "https%3A%2F%2Fa.test%2F%23f",
            "1a%3Ab",
            "a%3A",
        ] {
            ask(
                &server,
                &format!("grant_type=client_credentials&resource={resource}"),
            )
            .await
            .refused("invalid_target");
        }
    }
}

mod grants {
    use super::*;

    #[tokio::test]
    async fn client_credentials_get_no_refresh_token() {
        let server = AuthorizationServer::new();
        let answer = ask(&server, "grant_type=client_credentials").await;
        assert!(answer.token().starts_with("at-1-"));
        assert_eq!(answer.json()["expires_in"], 3600);
        assert!(answer.json().get("refresh_token").is_none());
        assert!(answer.json().get("scope").is_none());
        assert!(
            ask(&server, "grant_type=client_credentials")
                .await
                .token()
                .starts_with("at-2-")
        );
        assert_eq!(server.issued(), 2);
    }

    #[tokio::test]
    async fn passwords_are_checked() {
        let server = AuthorizationServer::builder()
            .user("ann", "p&ss wörd")
            .build();
        let good = "grant_type=password&username=ann&password=p%26ss+w%C3%B6rd";
        let answer = ask(&server, good).await;
        let token = answer.token();
        assert!(answer.string("refresh_token").starts_with("rt-1-"));
        assert_eq!(server.introspect(&token)["sub"], "ann");
        for wrong in [
            "username=ann&password=x",
            "username=bob&password=p%26ss+w%C3%B6rd",
        ] {
            ask(&server, &format!("grant_type=password&{wrong}"))
                .await
                .refused("invalid_grant");
        }
        ask(&server, "grant_type=password&username=ann")
            .await
            .refused("invalid_request");
    }

    fn code_form(code: &str, rest: &str) -> String {
        format!("grant_type=authorization_code&code={code}&redirect_uri={REDIRECT_ENCODED}{rest}")
    }

    fn code_form_with_verifier(code: &str, verifier: &str) -> String {
        code_form(code, &format!("&code_verifier={verifier}"))
    }

    #[tokio::test]
    async fn pkce_s256_accepts_the_test_vector_of_the_rfc() {
        let server = AuthorizationServer::new();
        let code = server.issue_code(
            AuthorizationCode::new("client", REDIRECT)
                .s256_challenge(CHALLENGE)
                .scope("openid"),
        );
        let other = VERIFIER.replace('d', "e");
        ask(&server, &code_form(&code, ""))
            .await
            .refused("invalid_grant");
        ask(&server, &code_form_with_verifier(&code, &other))
            .await
            .refused("invalid_grant");
        // With the plain method, the verifier would be the challenge itself.
        ask(&server, &code_form_with_verifier(&code, CHALLENGE))
            .await
            .refused("invalid_grant");
        let answer = ask(&server, &code_form_with_verifier(&code, VERIFIER)).await;
        answer.token();
        assert_eq!(answer.string("scope"), "openid");
    }

    #[tokio::test]
    async fn a_matching_verifier_of_the_wrong_length_is_refused() {
        let server = AuthorizationServer::new();
        // BASE64URL(SHA256("abc")), FIPS 180-2 appendix B.1.
        let challenge = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";
        let code =
            server.issue_code(AuthorizationCode::new("client", REDIRECT).s256_challenge(challenge));
        ask(&server, &code_form_with_verifier(&code, "abc"))
            .await
            .refused("invalid_grant");
    }

    #[tokio::test]
    async fn a_code_is_bound_to_its_client_and_redirect_uri() {
        let server = AuthorizationServer::builder()
            .client("client", "secret")
            .public_client("p")
            .build();
        let code = server.issue_code(AuthorizationCode::new("client", REDIRECT));
        let form = code_form(&code, "");
        post(&server, &format!("{form}&client_id=p"))
            .await
            .refused("invalid_grant");
        ask(
            &server,
            &format!("grant_type=authorization_code&code={code}"),
        )
        .await
        .refused("invalid_request");
        ask(
            &server,
            &format!("grant_type=authorization_code&code={code}&redirect_uri=https%3A%2F%2Fx.test"),
        )
        .await
        .refused("invalid_grant");
        ask(&server, &code_form("code-9", ""))
            .await
            .refused("invalid_grant");
        ask(&server, &code_form_with_verifier(&code, VERIFIER))
            .await
            .refused("invalid_grant");
        ask(&server, &form).await.token();
    }

    #[tokio::test]
    async fn a_second_use_of_a_code_revokes_its_tokens() {
        let server = AuthorizationServer::new();
        let code = server.issue_code(AuthorizationCode::new("client", REDIRECT));
        let bystander = server.issue_access_token("client", "");
        let first = ask(&server, &code_form(&code, "")).await;
        let (access, refresh) = (first.token(), first.string("refresh_token"));
        assert!(server.is_active(&access) && server.is_active(&refresh));
        ask(&server, &code_form(&code, ""))
            .await
            .refused("invalid_grant");
        assert!(!server.is_active(&access) && !server.is_active(&refresh));
        assert!(server.is_active(&bystander));
    }

    #[tokio::test(start_paused = true)]
    async fn a_code_expires() {
        let server = AuthorizationServer::new();
        let code = || {
            let code = AuthorizationCode::new("client", REDIRECT).lifetime(Duration::from_secs(30));
            server.issue_code(code)
        };
        let (early, late) = (code(), code());
        advance(Duration::from_millis(29_999)).await;
        ask(&server, &code_form(&early, "")).await.token();
        advance(Duration::from_millis(1)).await;
        ask(&server, &code_form(&late, ""))
            .await
            .refused("invalid_grant");
    }

    fn refresh_form(token: &str) -> String {
        format!("grant_type=refresh_token&refresh_token={token}")
    }

    #[tokio::test]
    async fn a_second_use_of_a_rotated_refresh_token_revokes_the_family() {
        let server = AuthorizationServer::new();
        let first = server.issue_refresh_token("client", "a b");
        let answer = ask(&server, &refresh_form(&first)).await;
        let (access, second) = (answer.token(), answer.string("refresh_token"));
        assert_ne!(first, second);
        assert_eq!(answer.string("scope"), "a b");
        assert!(!server.is_active(&first));

        let answer = ask(&server, &refresh_form(&second)).await;
        let third = answer.string("refresh_token");
        assert!(server.is_active(&access) && server.is_active(&third));

        ask(&server, &refresh_form(&first))
            .await
            .refused("invalid_grant");
        assert!(!server.is_active(&access) && !server.is_active(&third));
        ask(&server, &refresh_form(&third))
            .await
            .refused("invalid_grant");
    }

    #[tokio::test]
    async fn without_rotation_the_refresh_token_stays_valid_and_is_not_returned() {
        let server = AuthorizationServer::builder()
            .rotate_refresh_tokens(false)
            .build();
        let refresh = server.issue_refresh_token("client", "");
        for _ in 0..3 {
            let answer = ask(&server, &refresh_form(&refresh)).await;
            answer.token();
            assert!(answer.json().get("refresh_token").is_none());
        }
    }

    #[tokio::test]
    async fn a_refresh_can_narrow_the_scope_but_not_widen_it() {
        let server = AuthorizationServer::new();
        let refresh = server.issue_refresh_token("client", "a b");
        ask(&server, &format!("{}&scope=a+c", refresh_form(&refresh)))
            .await
            .refused("invalid_scope");
        let narrow = ask(&server, &format!("{}&scope=b", refresh_form(&refresh))).await;
        assert_eq!(narrow.string("scope"), "b");
        let next = narrow.string("refresh_token");
        assert_eq!(
            ask(&server, &refresh_form(&next)).await.string("scope"),
            "a b"
        );
    }

    #[tokio::test]
    async fn a_refresh_token_is_bound_to_its_client_and_an_access_token_cannot_replace_it() {
        let server = AuthorizationServer::builder()
            .client("client", "secret")
            .client("b", "b")
            .build();
        let refresh = server.issue_refresh_token("b", "");
        ask(&server, &refresh_form(&refresh))
            .await
            .refused("invalid_grant");
        let access = server.issue_access_token("client", "");
        ask(&server, &refresh_form(&access))
            .await
            .refused("invalid_grant");
        ask(&server, &refresh_form("unknown"))
            .await
            .refused("invalid_grant");
        basic(&server, "b:b", &refresh_form(&refresh)).await.token();
        let revoked = server.issue_refresh_token("client", "");
        server.revoke(&revoked);
        ask(&server, &refresh_form(&revoked))
            .await
            .refused("invalid_grant");
    }

    #[tokio::test]
    async fn refresh_tokens_can_be_disabled() {
        let server = AuthorizationServer::builder()
            .user("u", "p")
            .issue_refresh_tokens(false)
            .build();
        let answer = ask(&server, "grant_type=password&username=u&password=p").await;
        answer.token();
        assert!(answer.json().get("refresh_token").is_none());
    }

    const DEVICE: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";

    #[tokio::test(start_paused = true)]
    async fn a_device_polls_until_the_user_approves_and_each_slow_down_is_permanent() {
        let server = AuthorizationServer::new();
        let device = post_at(&server, "/device_authorization", "scope=tv").await;
        assert_eq!(device.json()["interval"], 5);
        assert_eq!(device.json()["expires_in"], 600);
        let (code, user_code) = (device.string("device_code"), device.string("user_code"));
        assert_eq!(
            device.string("verification_uri_complete"),
            format!("https://as.test/device?user_code={user_code}")
        );
        let form = format!("{DEVICE}&device_code={code}");

        ask(&server, &form).await.refused("authorization_pending");
        advance(Duration::from_millis(4_999)).await;
        ask(&server, &form).await.refused("slow_down"); // the interval is now 10 s
        advance(Duration::from_secs(9)).await;
        ask(&server, &form).await.refused("slow_down"); // the interval is now 15 s
        advance(Duration::from_secs(15)).await;
        ask(&server, &form).await.refused("authorization_pending");

        assert!(!server.approve_device("WRONG"));
        assert!(server.approve_device(&user_code));
        assert!(!server.approve_device(&user_code));
        let answer = ask(&server, &form).await;
        answer.token();
        assert_eq!(answer.string("scope"), "tv");
        answer.string("refresh_token");
        ask(&server, &form).await.refused("invalid_grant");
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_code_can_be_denied_or_expire_and_is_bound_to_its_client() {
        let server = AuthorizationServer::builder()
            .client("client", "secret")
            .public_client("tv")
            .device_code_lifetime(Duration::from_secs(60))
            .polling_interval(Duration::from_millis(1_500))
            .build();
        let device = post_at(&server, "/device_authorization", "").await;
        assert_eq!(device.json()["interval"], 2);
        let form = format!("{DEVICE}&device_code={}", device.string("device_code"));
        post(&server, &format!("{form}&client_id=tv"))
            .await
            .refused("invalid_grant");
        assert!(server.deny_device(&device.string("user_code")));
        ask(&server, &form).await.refused("access_denied");

        let device = send(
            &server,
            post_to("https://as.test/device_authorization", "client_id=tv"),
        );
        let device = device.await;
        let form = format!(
            "{DEVICE}&device_code={}&client_id=tv",
            device.string("device_code")
        );
        advance(Duration::from_secs(60)).await;
        post(&server, &form).await.refused("expired_token");
        assert!(!server.approve_device(&device.string("user_code")));
        ask(&server, &format!("{DEVICE}&device_code=dc-9"))
            .await
            .refused("invalid_grant");
        send(&server, post_to("https://as.test/device_authorization", ""))
            .await
            .refused("invalid_client");
    }

    #[tokio::test(start_paused = true)]
    async fn ciba_is_polled_until_the_user_has_decided() {
        const CIBA: &str = "grant_type=urn%3Aopenid%3Aparams%3Agrant-type%3Aciba";
        let server = AuthorizationServer::new();
        let id = server.issue_auth_request("client", "openid");
        let form = format!("{CIBA}&auth_req_id={id}");
        ask(&server, &form).await.refused("authorization_pending");
        ask(&server, &form).await.refused("slow_down");
        // It is not a device code, although both are polled.
        ask(&server, &format!("{DEVICE}&device_code={id}"))
            .await
            .refused("invalid_grant");
        assert!(server.approve_auth_request(&id));
        assert_eq!(ask(&server, &form).await.string("scope"), "openid");
        ask(&server, &form).await.refused("invalid_grant");

        let denied = server.issue_auth_request("client", "");
        assert!(server.deny_auth_request(&denied));
        ask(&server, &format!("{CIBA}&auth_req_id={denied}"))
            .await
            .refused("access_denied");
        let late = server.issue_auth_request("client", "");
        advance(Duration::from_secs(600)).await;
        ask(&server, &format!("{CIBA}&auth_req_id={late}"))
            .await
            .refused("expired_token");
    }

    #[tokio::test]
    async fn token_exchange_accepts_active_or_registered_tokens_and_returns_the_type() {
        const EXCHANGE: &str =
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";
        const AT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token";
        let server = AuthorizationServer::builder()
            .user("ann", "p")
            .subject_token("foreign")
            .build();
        let login = ask(&server, "grant_type=password&username=ann&password=p").await;
        let own = login.token();
        let form =
            |token: &str| format!("{EXCHANGE}&subject_token={token}&subject_token_type={AT}");

        let answer = ask(&server, &form(&own)).await;
        assert_eq!(
            answer.string("issued_token_type"),
            "urn:ietf:params:oauth:token-type:access_token"
        );
        assert_eq!(server.introspect(&answer.token())["sub"], "ann");
        ask(&server, &form("foreign")).await.token();
        let actor = format!("&actor_token={own}&actor_token_type={AT}");
        ask(&server, &format!("{}{actor}", form("foreign")))
            .await
            .token();
        let saml = "&requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Asaml2";
        let answer = ask(&server, &format!("{}{saml}", form(&own))).await;
        assert_eq!(answer.string("token_type"), "N_A");
        assert_eq!(
            answer.string("issued_token_type"),
            "urn:ietf:params:oauth:token-type:saml2"
        );

        ask(&server, &form("unknown"))
            .await
            .refused("invalid_request");
        ask(&server, &format!("{EXCHANGE}&subject_token={own}"))
            .await
            .refused("invalid_request");
        ask(&server, &format!("{}&actor_token={own}", form(&own)))
            .await
            .refused("invalid_request");
        ask(
            &server,
            &format!("{}&actor_token=x&actor_token_type={AT}", form(&own)),
        )
        .await
        .refused("invalid_request");
        server.revoke(&own);
        ask(&server, &form(&own)).await.refused("invalid_request");
    }

    #[tokio::test]
    async fn bearer_assertions_are_checked_by_kind_with_or_without_a_client() {
        const JWT: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
        const SAML: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Asaml2-bearer";
        let server = AuthorizationServer::builder()
            .jwt_bearer_assertion("a.b.c")
            .saml2_bearer_assertion("PHNhbWw-")
            .build();
        ask(&server, &format!("{JWT}&assertion=a.b.c"))
            .await
            .token();
        post(&server, &format!("{JWT}&assertion=a.b.c"))
            .await
            .token();
        ask(&server, &format!("{SAML}&assertion=PHNhbWw-"))
            .await
            .token();
        ask(&server, &format!("{SAML}&assertion=a.b.c"))
            .await
            .refused("invalid_grant");
        ask(&server, &format!("{JWT}&assertion=PHNhbWw-"))
            .await
            .refused("invalid_grant");
        ask(&server, JWT).await.refused("invalid_request");
        post(
            &server,
            &format!("{JWT}&assertion=a.b.c&client_id=client&client_secret=x"),
        )
        .await
        .refused("invalid_client");
    }
}

mod tokens {
    use super::*;

    const CC: &str = "grant_type=client_credentials&scope=a";

    #[tokio::test(start_paused = true)]
    async fn a_token_expires_at_the_exact_instant() {
        let server = AuthorizationServer::builder()
            .access_token_lifetime(Duration::from_millis(2_500))
            .build();
        let answer = ask(&server, CC).await;
        assert_eq!(answer.json()["expires_in"], 2);
        let token = answer.token();
        advance(Duration::from_millis(2_499)).await;
        assert!(server.is_active(&token));
        assert!(server.check_bearer(&bearer(&token)).is_ok());
        advance(Duration::from_millis(1)).await;
        assert!(!server.is_active(&token));
        assert_eq!(server.introspect(&token), json!({ "active": false }));
        let refused = server.check_bearer(&bearer(&token)).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            refused.headers()[header::WWW_AUTHENTICATE],
            "Bearer error=\"invalid_token\""
        );
    }

    #[tokio::test]
    async fn expires_in_can_have_any_value_or_be_absent() {
        let ask_with = |server: AuthorizationServer| async move { ask(&server, CC).await.json() };
        let builder = AuthorizationServer::builder;
        let sub_second = builder()
            .access_token_lifetime(Duration::from_millis(999))
            .build();
        assert_eq!(ask_with(sub_second).await["expires_in"], 0);
        let forever = builder().access_token_lifetime(Duration::MAX).build();
        assert!(ask_with(forever).await.get("expires_in").is_none());
        assert_eq!(
            ask_with(builder().expires_in("3599").build()).await["expires_in"],
            "3599"
        );
        assert_eq!(
            ask_with(builder().expires_in(-1).build()).await["expires_in"],
            -1
        );
        let null = ask_with(builder().expires_in(Value::Null).build()).await;
        assert_eq!(null.get("expires_in"), Some(&Value::Null));
        let omitted = ask_with(builder().expires_in(1).omit_expires_in(true).build()).await;
        assert!(omitted.get("expires_in").is_none());
        let server = AuthorizationServer::new();
        server.set_access_token_lifetime(Duration::from_secs(7));
        assert_eq!(ask_with(server).await["expires_in"], 7);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_token_can_be_returned_until_it_expires() {
        let server = AuthorizationServer::new();
        server.same_token(true);
        let first = ask(&server, CC).await.token();
        advance(Duration::from_secs(600)).await;
        server.revoke(&first);
        let second = ask(&server, CC).await;
        assert_eq!(second.token(), first);
        assert_eq!(second.json()["expires_in"], 3000);
        assert_eq!((server.token_requests(), server.issued()), (2, 1));
        let other_scope = ask(&server, "grant_type=client_credentials&scope=b")
            .await
            .token();
        assert_ne!(other_scope, first);
        advance(Duration::from_secs(3000)).await;
        assert_ne!(ask(&server, CC).await.token(), first);
        server.same_token(false);
        assert_ne!(
            ask(&server, CC).await.token(),
            ask(&server, CC).await.token()
        );
    }

    #[tokio::test]
    async fn response_fields_are_added_or_replaced() {
        let server = AuthorizationServer::builder()
            .response_field("id_token", "h.p.s")
            .response_field("token_type", "bearer")
            .build();
        let json = ask(&server, CC).await.json();
        assert_eq!(
            (&json["id_token"], &json["token_type"]),
            (&json!("h.p.s"), &json!("bearer"))
        );
    }

    #[tokio::test]
    async fn introspection_requires_an_authenticated_client() {
        let server = AuthorizationServer::builder()
            .client("client", "secret")
            .public_client("p")
            .build();
        let token = server.issue_access_token("p", "a b");
        let form = format!("token={token}&token_type_hint=refresh_token");
        let active =
            json!({ "active": true, "client_id": "p", "scope": "a b", "token_type": "Bearer" });
        assert_eq!(post_at(&server, "/introspect", &form).await.json(), active);
        assert_eq!(server.introspect(&token), active);
        let unknown = post_at(&server, "/introspect", "token=x").await;
        assert_eq!(unknown.json(), json!({ "active": false }));
        post_at(&server, "/introspect", "x=y")
            .await
            .refused("invalid_request");
        let public = post_to("https://as.test/introspect", &format!("{form}&client_id=p"));
        send(&server, public).await.refused("invalid_client");
        assert_eq!(server.token_requests(), 0);
    }

    #[tokio::test]
    async fn only_the_owner_can_revoke_a_token_and_revoking_a_refresh_token_revokes_its_family() {
        let server = AuthorizationServer::builder()
            .client("client", "secret")
            .client("b", "b")
            .user("u", "p")
            .build();
        let answer = ask(&server, "grant_type=password&username=u&password=p").await;
        let (access, refresh) = (answer.token(), answer.string("refresh_token"));

        let foreign = post_to("https://as.test/revoke", &format!("token={access}"));
        send(&server, with_basic(foreign, "b:b"))
            .await
            .refused("invalid_grant");
        assert!(server.is_active(&access));
        let wrong = post_to("https://as.test/revoke", &format!("token={access}"));
        send(&server, with_basic(wrong, "client:x"))
            .await
            .refused("invalid_client");

        let revoked = post_at(&server, "/revoke", &format!("token={access}")).await;
        assert_eq!((revoked.status, revoked.body.len()), (StatusCode::OK, 0));
        assert!(!server.is_active(&access) && server.is_active(&refresh));

        let next = ask(
            &server,
            &format!("grant_type=refresh_token&refresh_token={refresh}"),
        )
        .await;
        let (access, refresh) = (next.token(), next.string("refresh_token"));
        post_at(&server, "/revoke", &format!("token={refresh}")).await;
        assert!(!server.is_active(&access) && !server.is_active(&refresh));
        assert_eq!(
            post_at(&server, "/revoke", "token=unknown").await.status,
            StatusCode::OK
        );
    }

    #[tokio::test]
    async fn revoke_all_does_not_affect_later_tokens() {
        let server = AuthorizationServer::new();
        let tokens = [
            server.issue_access_token("client", ""),
            server.issue_refresh_token("client", ""),
        ];
        server.revoke_all();
        assert!(tokens.iter().all(|token| !server.is_active(token)));
        assert!(!server.revoke(&tokens[0]));
        assert!(server.revoke(&server.issue_access_token("client", "")));
    }

    fn bearer(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            format!("Bearer {token}").parse().unwrap(),
        );
        headers
    }

    #[tokio::test]
    async fn check_bearer_accepts_only_a_valid_access_token() {
        let server = AuthorizationServer::new();
        let token = server.issue_access_token("client", "");
        assert!(server.check_bearer(&bearer(&token)).is_ok());
        let refused = |headers: &HeaderMap| {
            let response = server.check_bearer(headers).unwrap_err();
            let challenge = response.headers()[header::WWW_AUTHENTICATE]
                .to_str()
                .unwrap()
                .to_owned();
            (response.status().as_u16(), challenge)
        };
        let invalid = (401, "Bearer error=\"invalid_token\"".to_owned());
        assert_eq!(refused(&bearer("unknown")), invalid);
        assert_eq!(
            refused(&bearer(&server.issue_refresh_token("client", ""))),
            invalid
        );
        assert_eq!(refused(&HeaderMap::new()), (401, "Bearer".to_owned()));
        let mut twice = bearer(&token);
        twice.append(header::AUTHORIZATION, twice[header::AUTHORIZATION].clone());
        assert_eq!(
            refused(&twice),
            (400, "Bearer error=\"invalid_request\"".to_owned())
        );
        server.revoke(&token);
        assert_eq!(refused(&bearer(&token)), invalid);
    }

    #[tokio::test]
    async fn metadata_names_the_endpoints_by_address_host_or_issuer() {
        let get = |uri: &str| Request::get(uri).body(Full::default()).unwrap();
        let path = "/.well-known/oauth-authorization-server";
        let server = AuthorizationServer::builder()
            .scopes(["a"])
            .custom_grant("urn:x")
            .metadata_field("op_policy_uri", "https://as.test/policy")
            .build();
        let metadata = send(&server, get(&server.uri(path).to_string()))
            .await
            .json();
        let openid = server.uri("/.well-known/openid-configuration");
        assert_eq!(
            send(&server, get(&openid.to_string())).await.json(),
            metadata
        );
        assert_eq!(metadata["op_policy_uri"], "https://as.test/policy");
        assert_eq!(metadata["issuer"], "https://as.test");
        assert_eq!(
            metadata["token_endpoint"],
            server.token_endpoint().to_string()
        );
        assert_eq!(metadata["scopes_supported"], json!(["a"]));
        assert!(
            metadata["grant_types_supported"]
                .as_array()
                .unwrap()
                .contains(&json!("urn:x"))
        );

        let mut by_host = get(path);
        by_host
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("127.0.0.1:81"));
        let metadata = send(&server, by_host).await.json();
        assert_eq!(
            metadata["revocation_endpoint"],
            "http://127.0.0.1:81/revoke"
        );

        let issuer = Uri::from_static("https://login.test");
        let server = AuthorizationServer::builder().issuer(issuer).build();
        assert_eq!(server.token_endpoint(), "https://login.test/token");
        let metadata = send(&server, get(&format!("https://as.test{path}")))
            .await
            .json();
        assert_eq!(metadata["issuer"], "https://login.test");
    }
}

mod script {
    use super::*;

    const CC: &str = "grant_type=client_credentials";

    fn request() -> Request<Full<Bytes>> {
        post_to("https://as.test/token", &format!("{CC}&{CLIENT}"))
    }

    #[tokio::test]
    async fn counted_failures_happen_in_order_and_then_requests_succeed() {
        let server = AuthorizationServer::new();
        let busy = Failure::status(503)
            .retry_after(Duration::from_millis(1_001))
            .body("busy");
        server.fail_next_n(2, busy.content_type("text/plain"));
        server.fail_next_n(0, Failure::status(599));
        server.fail_next(Failure::oauth("invalid_client").with_status(403));
        for _ in 0..2 {
            let answer = ask(&server, CC).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.headers[header::RETRY_AFTER], "2");
            assert_eq!(answer.headers[header::CONTENT_TYPE], "text/plain");
            assert_eq!(answer.body, "busy");
        }
        let answer = ask(&server, CC).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.json(), json!({ "error": "invalid_client" }));
        ask(&server, CC).await.token();
        assert_eq!((server.token_requests(), server.issued()), (4, 1));
    }

    #[tokio::test]
    async fn a_permanent_failure_lasts_until_recover_and_counted_ones_come_first() {
        let server = AuthorizationServer::new();
        server.fail_until_told(Failure::status(500));
        server.fail_until_told(Failure::oauth("invalid_client"));
        server.fail_next(Failure::status(502));
        assert_eq!(ask(&server, CC).await.status, StatusCode::BAD_GATEWAY);
        for _ in 0..3 {
            ask(&server, CC).await.refused("invalid_client");
        }
        server.fail_next_n(9, Failure::status(502));
        server.recover();
        ask(&server, CC).await.token();
    }

    #[tokio::test]
    async fn a_failure_rule_sees_the_request_and_may_use_the_server() {
        let server = AuthorizationServer::new();
        let seen = server.clone();
        server.fail_when(move |request| {
            assert!(seen.token_requests() > 0);
            (request.get("scope") == Some("bad")).then(|| Failure::status(500))
        });
        ask(&server, CC).await.token();
        assert_eq!(
            ask(&server, &format!("{CC}&scope=bad"))
                .await
                .status
                .as_u16(),
            500
        );
        server.recover();
        ask(&server, &format!("{CC}&scope=bad")).await.token();
    }

    #[tokio::test]
    async fn a_failure_applies_only_to_its_path() {
        let server = AuthorizationServer::new();
        server.fail_next(Failure::status(500).at("/revoke"));
        server.fail_when(|_| Some(Failure::status(501).at("/introspect")));
        ask(&server, CC).await.token();
        assert_eq!(
            post_at(&server, "/revoke", "token=x").await.status.as_u16(),
            500
        );
        assert_eq!(
            post_at(&server, "/revoke", "token=x").await.status.as_u16(),
            200
        );
        assert_eq!(
            post_at(&server, "/introspect", "token=x")
                .await
                .status
                .as_u16(),
            501
        );
    }

    #[tokio::test]
    async fn a_scripted_response_is_returned_unchanged() {
        let server = AuthorizationServer::new();
        let response = Response::builder()
            .status(201)
            .header("x-one", "1")
            .header("x-one", "2")
            .body(Bytes::from_static(b"{}"));
        server.respond_next(response.unwrap());
        let answer = ask(&server, CC).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (201, &b"{}"[..])
        );
        let values: Vec<_> = answer.headers.get_all("x-one").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(answer.headers.len(), 2);
        assert_eq!(server.issued(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_uses_the_tokio_clock_and_precedes_processing() {
        let server = AuthorizationServer::new();
        let start = Instant::now();
        server.fail_next(Failure::delay(Duration::from_secs(20)));
        let answer = ask(&server, CC).await;
        assert_eq!(start.elapsed(), Duration::from_secs(20));
        assert_eq!(answer.json()["expires_in"], 3600);
        assert!(server.is_active(&answer.token()));

        // If the client disconnects during the delay, nothing is processed.
        server.fail_next(Failure::delay(Duration::from_secs(20)));
        let timed_out = timeout(Duration::from_secs(19), ask(&server, CC)).await;
        assert!(timed_out.is_err());
        assert_eq!((server.token_requests(), server.issued()), (2, 1));

        server.fail_next(Failure::delay(Duration::from_secs(20)).after_processing());
        let timed_out = timeout(Duration::from_secs(19), ask(&server, CC)).await;
        assert!(timed_out.is_err());
        assert_eq!(server.issued(), 2);

        server.fail_next(Failure::status(503).delayed(Duration::from_secs(3)));
        let start = Instant::now();
        assert_eq!(ask(&server, CC).await.status.as_u16(), 503);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test]
    async fn a_dropped_connection_is_a_reset_and_processes_nothing_by_default() {
        let server = AuthorizationServer::new();
        let refresh = server.issue_refresh_token("client", "");
        let form = format!("grant_type=refresh_token&refresh_token={refresh}&{CLIENT}");
        let request = || post_to("https://as.test/token", &form);

        server.fail_next(Failure::drop_connection());
        let error = server.clone().oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(server.is_active(&refresh));

        server.fail_next(Failure::drop_connection().after_processing());
        let error = server.clone().oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(!server.is_active(&refresh));
        assert_eq!(server.issued(), 1);
        // An error status after processing never contains the token.
        let other = server.issue_refresh_token("client", "");
        server.fail_next(Failure::status(502).after_processing());
        let answer = ask(
            &server,
            &format!("grant_type=refresh_token&refresh_token={other}"),
        )
        .await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (502, 0));
        assert!(!server.is_active(&other));
    }

    #[tokio::test]
    async fn a_truncated_body_announces_its_full_length_and_breaks_off() {
        let server = AuthorizationServer::new();
        server.fail_next(Failure::truncate_body(10));
        let response = server.clone().oneshot(request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        let announced = body.size_hint().exact().unwrap();
        let part = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((part.len(), &part[..2]), (10, &b"{\""[..]));
        assert!(announced > 10);
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(body.frame().await.is_none());

        // The last byte is never sent; otherwise the body would be complete.
        server.fail_next(Failure::truncate_body(usize::MAX));
        let response = server.clone().oneshot(request()).await.unwrap();
        let mut body = response.into_body();
        let announced = body.size_hint().exact().unwrap();
        let part = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(part.len() as u64, announced - 1);
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn stalls_never_end() {
        let server = AuthorizationServer::new();
        let day = Duration::from_secs(86_400);
        server.fail_next(Failure::stall());
        assert!(
            timeout(day, server.clone().oneshot(request()))
                .await
                .is_err()
        );
        assert_eq!(server.issued(), 0);

        server.fail_next(Failure::stall_body(4));
        let mut body = server.clone().oneshot(request()).await.unwrap().into_body();
        assert_eq!(
            body.frame()
                .await
                .unwrap()
                .unwrap()
                .into_data()
                .unwrap()
                .len(),
            4
        );
        assert!(timeout(day, body.frame()).await.is_err());
    }

    #[tokio::test]
    async fn garbage_is_not_json_and_a_redirect_has_a_location() {
        let server = AuthorizationServer::new();
        server.fail_next(Failure::garbage());
        let answer = ask(&server, CC).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(serde_json::from_slice::<Value>(&answer.body).is_err());
        assert!(std::str::from_utf8(&answer.body).is_err());

        server.fail_next(Failure::redirect("https://evil.test/token"));
        let answer = ask(&server, CC).await;
        assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(answer.headers[header::LOCATION], "https://evil.test/token");

        server.fail_next(Failure::status(7));
        assert_eq!(ask(&server, CC).await.status.as_u16(), 500);
        let name = HeaderName::from_static("x-a");
        server.fail_next(Failure::status(400).header(name, HeaderValue::from_static("b")));
        assert_eq!(ask(&server, CC).await.headers["x-a"], "b");
    }
}

mod observation {
    use super::*;

    #[tokio::test]
    async fn requests_are_recorded_decoded_and_in_order_and_never_printed() {
        let server = AuthorizationServer::builder()
            .client("client", "sentinel-s3")
            .build();
        let form = "grant_type=client_credentials&b=sentinel-b%2B+&a=&b=2";
        let mut request = with_basic(
            post_to("https://as.test/token?q=sentinel-q", form),
            "client:sentinel-s3",
        );
        request
            .headers_mut()
            .insert("x-key", HeaderValue::from_static("sentinel-h"));
        send(&server, request).await.refused("invalid_request");
        let token = server.issue_access_token("client", "");

        let requests = server.requests();
        let recorded = &requests[0];
        let pairs: Vec<_> = recorded
            .form()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let expected = [
            ("grant_type", "client_credentials"),
            ("b", "sentinel-b+ "),
            ("a", ""),
            ("b", "2"),
        ];
        assert_eq!(pairs, expected);
        assert_eq!(recorded.get("b"), Some("sentinel-b+ "));
        assert_eq!(
            recorded.get_all("b").collect::<Vec<_>>(),
            ["sentinel-b+ ", "2"]
        );
        assert_eq!(recorded.get("a"), None);
        assert_eq!(recorded.method(), http::Method::POST);
        assert_eq!(
            (recorded.path(), recorded.uri().query()),
            ("/token", Some("q=sentinel-q"))
        );
        assert_eq!(recorded.headers()["x-key"], "sentinel-h");

        let failure = Failure::status(200).body("sentinel-body");
        let code = AuthorizationCode::new("client", REDIRECT).s256_challenge("sentinel-c");
        let builder = AuthorizationServer::builder()
            .client("c", "sentinel")
            .user("u", "sentinel");
        let printed = format!("{requests:#?}{server:?}{failure:?}{code:?}{builder:?}");
        assert!(
            !printed.contains("sentinel") && !printed.contains(&token),
            "{printed}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_peak_counts_concurrent_token_requests() {
        let server = AuthorizationServer::new();
        let form = "grant_type=client_credentials";
        server.fail_next_n(3, Failure::delay(Duration::from_secs(1)));
        tokio::join!(ask(&server, form), ask(&server, form), ask(&server, form));
        ask(&server, form).await.token();
        assert_eq!(server.in_flight_peak(), 3);

        server.fail_until_told(Failure::stall());
        for _ in 0..5 {
            assert!(
                timeout(Duration::from_secs(1), ask(&server, form))
                    .await
                    .is_err()
            );
        }
        assert_eq!(server.in_flight_peak(), 3);
    }

    #[test]
    fn issuing_and_checking_tokens_needs_no_runtime() {
        let server = AuthorizationServer::default();
        let token = server.issue_access_token("client", "");
        assert!(server.is_active(&token));
    }
}

mod shared_time {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn endpoint(server: &AuthorizationServer) -> TokenEndpoint<AuthorizationServer> {
        let client = ClientAuthentication::client_secret_basic("client", "secret");
        TokenEndpoint::new(server.clone(), server.token_endpoint(), client)
    }

    async fn token(source: &TokenSource) -> String {
        source.token().await.unwrap().expose_secret().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn cache_without_a_clock_of_its_own_follows_paused_time() {
        let server = AuthorizationServer::new();
        let cache = TokenCache::new(endpoint(&server));
        let source = cache.source(TokenRequest::client_credentials());
        let first = token(&source).await;
        advance(HOUR - Duration::from_secs(60)).await;
        assert!(server.is_active(&first));
        assert!(source.peek().is_some());

        advance(HOUR).await;
        assert!(!server.is_active(&first));
        assert!(source.peek().is_none());
        assert_ne!(token(&source).await, first);
        assert_eq!(server.token_requests(), 2);
    }

    /// The metadata are renewed after an hour as well.
    #[tokio::test(start_paused = true)]
    async fn metadata_follow_paused_time() {
        let server = AuthorizationServer::new();
        let client = ClientAuthentication::client_secret_basic("client", "secret");
        let endpoint = TokenEndpoint::discover(server.clone(), server.issuer(), client);
        let fetches = || {
            let requests = server.requests().into_iter();
            requests
                .filter(|request| request.path().starts_with("/.well-known/"))
                .count()
        };
        endpoint.metadata().await.unwrap();
        endpoint.metadata().await.unwrap();
        assert_eq!(fetches(), 1);
        advance(2 * HOUR).await;
        endpoint.metadata().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await; // the renewal runs in the background
        assert_eq!(fetches(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn cache_with_the_clock_of_the_server_follows_paused_time_and_the_test() {
        let server = AuthorizationServer::new();
        let cache = TokenCache::builder(endpoint(&server))
            .clock(server.clock())
            .build();
        let source = cache.source(TokenRequest::client_credentials());
        let first = token(&source).await;
        advance(HOUR).await;
        let second = token(&source).await;
        assert_ne!(first, second);
        server.clock().advance(HOUR);
        assert!(!server.is_active(&second));
        assert_ne!(token(&source).await, second);
        assert_eq!(server.token_requests(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn system_clock_that_was_asked_for_ignores_paused_time() {
        let server = AuthorizationServer::new();
        let cache = TokenCache::builder(endpoint(&server))
            .clock(Clock::system())
            .build();
        let source = cache.source(TokenRequest::client_credentials());
        let first = token(&source).await;
        advance(HOUR).await;
        assert!(source.peek().is_some());
        assert!(!server.is_active(&first));
    }

    /// Paused time does not work with a real client, but the clock of the server does.
    #[tokio::test]
    async fn tokens_expire_on_loopback_when_the_test_says_so() {
        let server = AuthorizationServer::start().await.unwrap();
        let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let client = ClientAuthentication::client_secret_basic("client", "secret");
        let endpoint = TokenEndpoint::discover(http, server.issuer(), client);
        let cache = TokenCache::builder(endpoint).clock(server.clock()).build();
        let source = cache.source(TokenRequest::client_credentials());
        let first = token(&source).await;
        assert_eq!(token(&source).await, first);
        server.clock().advance(HOUR);
        assert_ne!(token(&source).await, first);
        assert_eq!(server.token_requests(), 2);
    }

    #[tokio::test]
    async fn time_of_the_server_passes_while_the_host_of_the_cache_is_suspended_or_wrong() {
        let clock = ManualClock::new();
        let server = AuthorizationServer::builder().clock(clock.clone()).build();
        let token = server.issue_access_token("client", "");
        clock.set_wall_back(10 * HOUR);
        assert!(server.is_active(&token));
        clock.suspend(HOUR);
        assert!(!server.is_active(&token));

        let token = server.issue_access_token("client", "");
        server.clock().advance(HOUR);
        assert!(!server.is_active(&token));
    }

    #[tokio::test]
    async fn codes_and_polling_intervals_follow_the_clock_of_the_server() {
        let server = AuthorizationServer::new();
        let code = server.issue_code(AuthorizationCode::new("client", REDIRECT));
        server.clock().advance(HOUR);
        ask(
            &server,
            &format!("grant_type=authorization_code&code={code}&redirect_uri={REDIRECT_ENCODED}"),
        )
        .await
        .refused("invalid_grant");

        let id = server.issue_auth_request("client", "");
        let poll = format!("grant_type=urn%3Aopenid%3Aparams%3Agrant-type%3Aciba&auth_req_id={id}");
        ask(&server, &poll).await.refused("authorization_pending");
        ask(&server, &poll).await.refused("slow_down");
        server.clock().advance(Duration::from_secs(10));
        ask(&server, &poll).await.refused("authorization_pending");
        server.clock().advance(HOUR);
        ask(&server, &poll).await.refused("expired_token");
    }
}

mod anonymous {
    use super::*;

    const SUBJECT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";

    fn endpoint(server: &AuthorizationServer) -> TokenEndpoint<AuthorizationServer> {
        let client = ClientAuthentication::anonymous();
        TokenEndpoint::new(server.clone(), server.token_endpoint(), client)
    }

    #[tokio::test]
    async fn token_exchange_without_a_client_is_accepted_if_the_server_allows_it() {
        for allowed in [true, false] {
            let server = AuthorizationServer::builder()
                .subject_token("foreign")
                .anonymous_token_exchange(allowed)
                .build();
            let exchange = |token| TokenRequest::token_exchange(token, SUBJECT_TYPE);
            let result = endpoint(&server).oneshot(exchange("foreign")).await;
            assert_eq!(result.is_ok(), allowed);
            let error = endpoint(&server)
                .oneshot(exchange("unknown"))
                .await
                .unwrap_err();
            let code = if allowed {
                "invalid_request"
            } else {
                "invalid_client"
            };
            assert_eq!(error.error_response().unwrap().code().as_str(), code);
            // The other grants need a client, and wrong credentials are never ignored.
            post(&server, "grant_type=client_credentials")
                .await
                .refused("invalid_client");
            basic(&server, "client:wrong", "grant_type=client_credentials")
                .await
                .refused("invalid_client");
        }
    }

    #[tokio::test]
    async fn jwt_bearer_needs_no_client() {
        let server = AuthorizationServer::builder()
            .jwt_bearer_assertion("signed")
            .build();
        let request = TokenRequest::jwt_bearer("signed").scope("api1");
        let response = endpoint(&server).oneshot(request).await.unwrap();
        let introspected = server.introspect(response.access_token().expose_secret());
        assert_eq!(introspected["scope"], "api1");
        assert!(introspected.get("client_id").is_none());
        assert!(
            endpoint(&server)
                .oneshot(TokenRequest::jwt_bearer("other"))
                .await
                .is_err()
        );
    }
}

mod issuer {
    use super::*;

    #[tokio::test]
    async fn endpoints_are_discovered_by_the_issuer_in_process() {
        for (builder, issuer) in [
            (AuthorizationServer::builder(), "https://as.test"),
            (
                AuthorizationServer::builder().issuer(Uri::from_static("https://id.test:8443")),
                "https://id.test:8443",
            ),
        ] {
            let server = builder.build();
            assert_eq!(server.issuer(), issuer);
            let client = ClientAuthentication::client_secret_basic("client", "secret");
            let endpoint = TokenEndpoint::discover(server.clone(), server.issuer(), client);
            endpoint
                .clone()
                .oneshot(TokenRequest::client_credentials())
                .await
                .unwrap();
            let metadata = endpoint.metadata().await.unwrap();
            assert_eq!(*metadata.token_endpoint().unwrap(), server.token_endpoint());
        }
    }

    #[tokio::test]
    async fn endpoints_are_discovered_by_the_issuer_on_loopback() {
        let server = AuthorizationServer::builder()
            .client("a", "b")
            .start()
            .await
            .unwrap();
        assert_eq!(server.issuer(), format!("http://{}", server.addr()));
        let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let client = ClientAuthentication::client_secret_basic("a", "b");
        let endpoint = TokenEndpoint::discover(http, server.issuer(), client);
        endpoint
            .clone()
            .oneshot(TokenRequest::client_credentials())
            .await
            .unwrap();
        let metadata = endpoint.metadata().await.unwrap();
        assert_eq!(*metadata.token_endpoint().unwrap(), server.token_endpoint());
        assert_eq!(server.token_requests(), 1);
    }

    #[tokio::test]
    async fn started_server_is_controlled_by_its_handle_and_stops_when_dropped() {
        let server = AuthorizationServer::start().await.unwrap();
        let (addr, same) = (server.addr(), server.clone());
        server.fail_until_told(Failure::status(503));
        let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let form = format!("grant_type=client_credentials&{CLIENT}");
        let request = post_to(server.token_endpoint().to_string(), &form);
        assert_eq!(http.request(request).await.unwrap().status(), 503);
        assert_eq!((server.token_requests(), same.token_requests()), (1, 1));
        drop(server);
        while tokio::net::TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

mod loopback {
    use super::*;

    type Http = Client<HttpConnector, Full<Bytes>>;

    fn http() -> Http {
        Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .build_http()
    }

    async fn ask_at(http: &Http, uri: Uri) -> Answer {
        let form = format!("grant_type=client_credentials&{CLIENT}");
        Answer::collect(http.request(post_to(uri.to_string(), &form)).await.unwrap()).await
    }

    #[tokio::test]
    async fn a_token_issued_over_loopback_is_known_to_the_handle() {
        let server = AuthorizationServer::new();
        let listening = server.listen().await.unwrap();
        let http = http();
        let token = ask_at(&http, listening.token_endpoint()).await.token();
        assert!(server.is_active(&token));
        assert_eq!(
            (server.token_requests(), server.requests()[0].path()),
            (1, "/token")
        );

        let uri = listening.uri("/.well-known/oauth-authorization-server");
        let metadata = Answer::collect(http.get(uri).await.unwrap()).await.json();
        assert_eq!(metadata["issuer"], format!("http://{}", listening.addr()));
        assert_eq!(
            metadata["token_endpoint"],
            listening.token_endpoint().to_string()
        );
        assert_eq!(listening.uri("no path").path(), "/");
    }

    #[tokio::test]
    async fn statuses_and_headers_arrive_over_loopback() {
        let server = AuthorizationServer::new();
        let listening = server.listen().await.unwrap();
        let http = http();
        server.fail_next(
            Failure::status(429)
                .retry_after(Duration::from_secs(9))
                .body("slow"),
        );
        server.fail_next(Failure::garbage());
        server.fail_next(Failure::redirect(listening.uri("/elsewhere")));
        let busy = ask_at(&http, listening.token_endpoint()).await;
        assert_eq!((busy.status.as_u16(), &busy.body[..]), (429, &b"slow"[..]));
        assert_eq!(busy.headers[header::RETRY_AFTER], "9");
        let garbage = ask_at(&http, listening.token_endpoint()).await;
        assert!(serde_json::from_slice::<Value>(&garbage.body).is_err());
        let redirect = ask_at(&http, listening.token_endpoint()).await;
        assert_eq!(redirect.status, StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(
            redirect.headers[header::LOCATION],
            listening.uri("/elsewhere").to_string()
        );
        ask_at(&http, listening.token_endpoint()).await.token();
    }

    #[tokio::test]
    async fn a_dropped_connection_is_closed_without_a_response() {
        let server = AuthorizationServer::new();
        let listening = server.listen().await.unwrap();
        server.fail_next(Failure::drop_connection());
        let http = http();
        let form = format!("grant_type=client_credentials&{CLIENT}");
        let request = post_to(listening.token_endpoint().to_string(), &form);
        let error = http.request(request).await.unwrap_err();
        assert!(!error.is_connect(), "{error:?}");
        assert_eq!((server.token_requests(), server.issued()), (1, 0));
        ask_at(&http, listening.token_endpoint()).await.token();
    }

    #[tokio::test]
    async fn a_truncated_body_breaks_off_after_its_first_part() {
        let server = AuthorizationServer::new();
        let listening = server.listen().await.unwrap();
        server.fail_next(Failure::truncate_body(12));
        let form = format!("grant_type=client_credentials&{CLIENT}");
        let request = post_to(listening.token_endpoint().to_string(), &form);
        let response = http().request(request).await.expect("no response head");
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        let mut received = Vec::new();
        let error = loop {
            match body.frame().await.expect("the body ended without an error") {
                Ok(frame) => received.extend_from_slice(&frame.into_data().unwrap()),
                Err(error) => break error,
            }
        };
        assert_eq!(received.len(), 12);
        let source = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(
            source.map(io::Error::kind),
            Some(io::ErrorKind::UnexpectedEof)
        );
    }

    #[tokio::test]
    async fn a_stalled_response_keeps_the_connection_open() {
        let server = AuthorizationServer::new();
        let listening = server.listen().await.unwrap();
        let http = http();
        let form = format!("grant_type=client_credentials&{CLIENT}");
        let request = || post_to(listening.token_endpoint().to_string(), &form);

        server.fail_next(Failure::stall_body(3));
        let mut body = http.request(request()).await.unwrap().into_body();
        assert_eq!(
            body.frame()
                .await
                .unwrap()
                .unwrap()
                .into_data()
                .unwrap()
                .len(),
            3
        );

        server.fail_next(Failure::stall());
        let mut stalled = tokio::spawn(http.request(request()));
        while server.token_requests() < 2 {
            tokio::task::yield_now().await;
        }
        // Other connections are served meanwhile, and neither of the two makes progress.
        for _ in 0..20 {
            ask_at(&super::loopback::http(), listening.token_endpoint())
                .await
                .token();
        }
        assert!(now_or_never(&mut stalled).await.is_none());
        assert!(now_or_never(body.frame()).await.is_none());

        listening.stop().await;
        assert!(stalled.await.unwrap().is_err());
        assert!(body.frame().await.unwrap().is_err());
    }

    /// Returns the output of a future that is ready now.
    async fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn a_delay_applies_over_loopback() {
        let server = AuthorizationServer::new();
        let listening = server.listen().await.unwrap();
        let start = Instant::now();
        server.fail_next(Failure::delay(Duration::from_millis(50)));
        ask_at(&http(), listening.token_endpoint()).await.token();
        assert!(start.elapsed() >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn stopping_closes_the_port_and_its_connections_and_the_server_can_restart() {
        let server = AuthorizationServer::new();
        let listening = server.listen().await.unwrap();
        let (addr, endpoint) = (listening.addr(), listening.token_endpoint());
        let http = http();
        let token = ask_at(&http, endpoint.clone()).await.token();
        listening.stop().await;
        assert!(tokio::net::TcpStream::connect(addr).await.is_err());

        let listening = server.listen_on(addr).await.unwrap();
        assert_eq!(listening.addr(), addr);
        assert!(server.is_active(&token));
        ask_at(&super::loopback::http(), endpoint).await.token();
    }

    #[tokio::test]
    async fn dropping_closes_open_connections() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let server = AuthorizationServer::new();
        let listening = server.listen().await.unwrap();
        let mut stream = tokio::net::TcpStream::connect(listening.addr())
            .await
            .unwrap();
        stream
            .write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 404");
        drop(listening);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_while_serving_fails_the_test() {
        let server = AuthorizationServer::new();
        let listening = server.listen().await.unwrap();
        server.fail_when(|_| panic!("intended by the test"));
        let form = format!("grant_type=client_credentials&{CLIENT}");
        let request = post_to(listening.token_endpoint().to_string(), &form);
        assert!(http().request(request).await.is_err());
        let payload =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(listening))).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"intended by the test"));
        // The server itself still works.
        server.recover();
        ask(&server, "grant_type=client_credentials").await.token();
    }
}

#[test]
fn handle_and_future_are_send() {
    fn assert_handle<T: Send + Sync + Clone + 'static>(_: &T) {}
    fn assert_send<T: Send>(_: &T) {}
    let server = AuthorizationServer::new();
    assert_handle(&server);
    let request = post_to("https://as.test/token", "");
    assert_send(&server.clone().oneshot(request));
}
