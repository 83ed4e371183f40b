//! The sign-in of a user: the URL, what is kept meanwhile, the response, the token request, the ID token.

mod support;

use std::{collections::HashMap, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::StatusCode;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_oauth2_client::{
    AuthorizationDetail, ClientAuthentication, DpopKey, ErrorCode, IdToken, IdTokenChecks,
    IdTokenClaims, TokenCache, TokenEndpoint, TokenError, TokenErrorKind, TokenRequest,
    TokenResponse,
    authorization_code::{
        AuthorizationEndpoint, AuthorizationError, AuthorizationErrorKind as Kind,
        AuthorizationRequest, AuthorizationResponse, PendingAuthorization,
    },
    test_util::{AuthorizationServer, AuthorizationServerBuilder},
};

use self::support::{GOOD, Recorder, answer, form};

const REDIRECT_URI: &str = "https://app.test/callback";
const ISSUER: &str = "https://as.example";

fn request() -> AuthorizationRequest {
    AuthorizationRequest::new(REDIRECT_URI)
}

fn endpoint() -> AuthorizationEndpoint {
    AuthorizationEndpoint::new("https://as.example/authorize").issuer(ISSUER)
}

fn begin() -> PendingAuthorization {
    endpoint().begin(request(), "client").unwrap().1
}

fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("client", "secret")
}

fn discover(server: &AuthorizationServer) -> TokenEndpoint<AuthorizationServer> {
    TokenEndpoint::discover(server.clone(), server.issuer(), client())
}

fn server() -> AuthorizationServerBuilder {
    AuthorizationServer::builder().client("client", "secret")
}

/// The parameters in the query of a URL. Each occurs once.
fn query(url: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    for (name, value) in form(url.split_once('?').unwrap().1.as_bytes()) {
        assert_eq!(
            found.insert(name.clone(), value),
            None,
            "{name} occurs twice in {url}"
        );
    }
    found
}

fn respond(query: &str) -> AuthorizationResponse {
    AuthorizationResponse::from_query(query)
}

fn id_token(claims: &Value) -> String {
    format!(
        "e30.{}.c2ln",
        BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())
    )
}

mod url {
    use super::*;

    #[test]
    fn it_contains_everything_that_was_set_and_what_this_crate_makes() {
        let request = request()
            .scope("orders openid")
            .scope("orders profile")
            .prompt("login consent")
            .login_hint("jane@example.com")
            .id_token_hint("e30.e30.x")
            .max_age(Duration::from_millis(90_500))
            .acr_values("urn:mace:silver")
            .ui_locales("de fr")
            .response_mode("form_post")
            .authorization_details([AuthorizationDetail::new("payment").actions(["pay"])])
            .parameter("audience", "https://api.example/?a=b&c")
            .parameter("audience", "https://api.example/?a=b&c")
            .parameter("empty", "");
        let (url, pending) = endpoint().begin(request, "my client").unwrap();

        assert!(url.starts_with("https://as.example/authorize?response_type=code&"));
        let mut found = query(&url);
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", "my client"),
            ("redirect_uri", REDIRECT_URI),
            ("scope", "orders openid profile"),
            ("prompt", "login consent"),
            ("login_hint", "jane@example.com"),
            ("id_token_hint", "e30.e30.x"),
            ("max_age", "90"),
            ("acr_values", "urn:mace:silver"),
            ("ui_locales", "de fr"),
            ("response_mode", "form_post"),
            (
                "authorization_details",
                r#"[{"actions":["pay"],"type":"payment"}]"#,
            ),
            ("audience", "https://api.example/?a=b&c"),
            ("code_challenge_method", "S256"),
            ("state", pending.state()),
        ] {
            assert_eq!(found.remove(name).as_deref(), Some(value), "{name}");
        }
        for name in ["nonce", "code_challenge"] {
            assert_eq!(found.remove(name).unwrap().len(), 43, "{name}");
        }
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(pending.redirect_uri(), REDIRECT_URI);
        assert_eq!(pending.issuer(), Some(ISSUER));
    }

    #[test]
    fn resources_repeat() {
        let request = request()
            .resource("https://a.example/")
            .resource("https://b.example/");
        let (url, _) = endpoint().begin(request, "client").unwrap();
        let resources = form(url.split_once('?').unwrap().1.as_bytes());
        let resources = resources.iter().filter(|(name, _)| name == "resource");
        assert_eq!(resources.count(), 2);
    }

    #[test]
    fn a_nonce_is_sent_only_if_an_id_token_is_wanted() {
        for (scope, expected) in [("", false), ("openid_x xopenid", false), ("a openid", true)] {
            let (url, _) = endpoint().begin(request().scope(scope), "client").unwrap();
            assert_eq!(query(&url).contains_key("nonce"), expected, "{scope}");
        }
    }

    #[test]
    fn each_sign_in_has_its_own_state_nonce_and_challenge() {
        let request = request().scope("openid");
        let mut seen = std::collections::HashSet::new();
        for _ in 0..50 {
            let (url, _) = endpoint().begin(request.clone(), "client").unwrap();
            let query = query(&url);
            for name in ["state", "nonce", "code_challenge"] {
                assert!(seen.insert(query[name].clone()));
            }
        }
    }

    #[test]
    fn the_query_of_the_endpoint_is_kept_and_gives_way() {
        let endpoint = AuthorizationEndpoint::new(
            "https://as.example/a?p=b2c_1&prompt=select_account&state=fixed",
        );
        let (url, pending) = endpoint.begin(request().prompt("login"), "client").unwrap();
        let query = query(&url);
        assert_eq!(query["p"], "b2c_1");
        assert_eq!(query["prompt"], "login");
        assert_eq!(query["state"], pending.state());
        let (url, _) = endpoint.begin(request(), "client").unwrap();
        assert_eq!(self::query(&url)["prompt"], "select_account");
    }

    #[test]
    fn invalid_requests_make_no_url() {
        let good = endpoint;
        let at = AuthorizationEndpoint::new;
        for (endpoint, request, client, expected) in [
            (
                good(),
                AuthorizationRequest::new(""),
                "c",
                "the redirect URI is not an absolute URI",
            ),
            (
                good(),
                AuthorizationRequest::new("/callback"),
                "c",
                "the redirect URI is not an absolute URI",
            ),
            (
                good(),
                AuthorizationRequest::new("app.test:"),
                "c",
                "the redirect URI is not an absolute URI",
            ),
            (
                good(),
                AuthorizationRequest::new("https://app.test/ cb"),
                "c",
                "the redirect URI is not an absolute URI",
            ),
            (
                good(),
                AuthorizationRequest::new("https://app.test/cb#x"),
                "c",
                "the redirect URI has a fragment",
            ),
            (
                good(),
                request().parameter("state", "x"),
                "c",
                "the parameter `state` is set by this crate",
            ),
            (
                good(),
                request().parameter("nonce", "x"),
                "c",
                "the parameter `nonce` is set by this crate",
            ),
            (
                good(),
                request().parameter("code_challenge", "x"),
                "c",
                "the parameter `code_challenge` is set",
            ),
            (
                good(),
                request().parameter("redirect_uri", "x"),
                "c",
                "the parameter `redirect_uri` is set by this crate",
            ),
            (
                good(),
                request().parameter("request_uri", "x"),
                "c",
                "the parameter `request_uri` is set by this crate",
            ),
            (
                good(),
                request().parameter("client_id", "x"),
                "c",
                "the parameter `client_id` is set by this crate",
            ),
            (
                good(),
                request().response_mode("form_post.jwt"),
                "c",
                "the response mode `form_post.jwt` asks for a signed response",
            ),
            (
                good(),
                request().parameter("response_mode", "jwt"),
                "c",
                "the response mode `jwt` asks for a signed response",
            ),
            (
                good(),
                request().prompt("login").prompt("none"),
                "c",
                "the parameter `prompt` is set twice",
            ),
            (
                good(),
                request().parameter("", "x"),
                "c",
                "the name of a parameter is empty",
            ),
            (
                good(),
                request().scope("a \u{e9}"),
                "c",
                "a scope cannot contain",
            ),
            (good(), request(), "", "the client has no client id"),
            (
                at(""),
                request(),
                "c",
                "the URI of the authorization endpoint is empty",
            ),
            (
                at("/authorize"),
                request(),
                "c",
                "the URI of the authorization endpoint is not absolute",
            ),
            (
                at("http://as.example/a"),
                request(),
                "c",
                "the URI of the authorization endpoint is plain http",
            ),
            (
                at("https://u:p@as.example/a"),
                request(),
                "c",
                "the URI of the authorization endpoint contains a user",
            ),
        ] {
            let error = endpoint.begin(request.clone(), client).unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Request);
            let text = error.to_string();
            let text = text
                .strip_prefix("the authorization request was not made: ")
                .unwrap();
            assert!(text.starts_with(expected), "{expected}: {text}");
            assert!(endpoint.begin_pushed(request, client).is_err());
        }
        let local = [
            "http://127.0.0.1:8080/a",
            "http://localhost/a",
            "http://[::1]/a",
        ];
        for uri in local {
            assert!(at(uri).begin(request(), "c").is_ok(), "{uri}");
        }
        let plain = at("http://as.example/a").danger_allow_http();
        assert!(plain.begin(request(), "c").is_ok());
        for uri in [
            "com.example.app:/cb",
            "http://127.0.0.1:1/",
            "urn:ietf:wg:oauth:2.0:oob",
        ] {
            assert!(
                good().begin(AuthorizationRequest::new(uri), "c").is_ok(),
                "{uri}"
            );
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_list_s256_is_refused_unless_that_is_allowed() {
        for (methods, is_listed) in [
            (json!(["S256"]), true),
            (json!(["plain", "S256"]), true),
            (json!(["plain"]), false),
            (json!(["s256"]), false),
            (json!([]), false),
            (json!("S256"), false),
            (json!(null), false),
        ] {
            let server = server()
                .metadata_field("code_challenge_methods_supported", methods.clone())
                .build();
            let endpoint = discover(&server);
            let begun = endpoint.begin_authorization(request()).await;
            match (begun, is_listed) {
                (Ok(_), true) => {}
                (Err(error), false) => {
                    assert_eq!(error.kind(), TokenErrorKind::Request);
                    assert!(
                        error.to_string().contains("danger_allow_unlisted_pkce"),
                        "{error}"
                    );
                    // Nothing was pushed either: only the metadata were requested.
                    assert_eq!(server.requests().len(), 1);
                }
                (begun, _) => panic!("{methods}: {begun:?}"),
            }
            let allowed = request().danger_allow_unlisted_pkce().pushed(false);
            let (url, _) = endpoint.begin_authorization(allowed).await.unwrap();
            assert_eq!(query(&url)["code_challenge_method"], "S256");
        }
    }

    #[tokio::test]
    async fn an_issuer_without_an_authorization_endpoint_is_reported() {
        for (endpoint, expected) in [
            (
                json!(null),
                "the metadata contains no `authorization_endpoint`",
            ),
            (
                json!(1),
                "the metadata contains no `authorization_endpoint`",
            ),
            (
                json!("http://as.example/a"),
                "the `authorization_endpoint` is plain http",
            ),
            (
                json!("nonsense ^"),
                "the `authorization_endpoint` is not a URI",
            ),
        ] {
            let server = server()
                .metadata_field("authorization_endpoint", endpoint)
                .build();
            let error = discover(&server)
                .begin_authorization(request())
                .await
                .unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let server = server().build();
        let unknown = TokenEndpoint::new(server.clone(), server.token_endpoint(), client());
        let error = unknown.begin_authorization(request()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request);
        assert!(
            error.to_string().contains("TokenEndpoint::discover"),
            "{error}"
        );
    }
}

mod response {
    use super::*;

    fn accept(
        pending: &mut PendingAuthorization,
        response: &str,
    ) -> Result<TokenRequest, AuthorizationError> {
        let response = response.replace("STATE", pending.state());
        pending.accept(&respond(&response))
    }

    #[test]
    fn each_response_is_accepted_or_refused_for_the_right_reason() {
        let no_issuer = || AuthorizationEndpoint::new("https://as.example/authorize");
        for (endpoint, response, expected) in [
            (endpoint(), "code=c&state=STATE", None),
            (
                endpoint(),
                "code=c&state=STATE&iss=https%3A%2F%2Fas.example",
                None,
            ),
            (
                endpoint(),
                "code=c&state=STATE&iss=https://as.example&session_state=1&x=1&x=2",
                None,
            ),
            (endpoint(), "code=c", Some(Kind::StateMismatch)),
            (endpoint(), "code=c&state=", Some(Kind::StateMismatch)),
            (endpoint(), "code=c&state=STATEx", Some(Kind::StateMismatch)),
            (endpoint(), "code=c&state=xSTATE", Some(Kind::StateMismatch)),
            (
                endpoint(),
                "code=c&state=STATE&state=STATE",
                Some(Kind::StateMismatch),
            ),
            (endpoint(), "error=access_denied", Some(Kind::StateMismatch)),
            (
                endpoint(),
                "error=access_denied&state=x&iss=https://as.example",
                Some(Kind::StateMismatch),
            ),
            (
                endpoint(),
                "code=c&state=STATE&iss=https://as.example/",
                Some(Kind::IssuerMismatch),
            ),
            (
                endpoint(),
                "code=c&state=STATE&iss=https://AS.example",
                Some(Kind::IssuerMismatch),
            ),
            (
                endpoint(),
                "code=c&state=STATE&iss=https://evil.example",
                Some(Kind::IssuerMismatch),
            ),
            (
                endpoint(),
                "code=c&state=STATE&iss=",
                Some(Kind::IssuerMismatch),
            ),
            (
                endpoint(),
                "error=access_denied&state=STATE&iss=https://evil.example",
                Some(Kind::IssuerMismatch),
            ),
            (
                endpoint().require_iss(),
                "code=c&state=STATE",
                Some(Kind::IssuerMismatch),
            ),
            (
                endpoint().require_iss(),
                "error=access_denied&state=STATE",
                Some(Kind::IssuerMismatch),
            ),
            (
                endpoint().require_iss(),
                "code=c&state=STATE&iss=https://as.example",
                None,
            ),
            (no_issuer(), "code=c&state=STATE", None),
            (
                no_issuer(),
                "code=c&state=STATE&iss=https://as.example",
                Some(Kind::IssuerMismatch),
            ),
            (
                no_issuer().require_iss(),
                "code=c&state=STATE",
                Some(Kind::IssuerMismatch),
            ),
            (
                endpoint(),
                "error=access_denied&state=STATE",
                Some(Kind::Refused),
            ),
            (
                endpoint(),
                "error=access_denied&state=STATE&iss=https://as.example",
                Some(Kind::Refused),
            ),
            (endpoint(), "state=STATE", Some(Kind::InvalidResponse)),
            (endpoint(), "code=&state=STATE", Some(Kind::InvalidResponse)),
            (
                endpoint(),
                "code=c&error=e&state=STATE",
                Some(Kind::InvalidResponse),
            ),
            (
                endpoint(),
                "code=c&code=d&state=STATE",
                Some(Kind::InvalidResponse),
            ),
            (
                endpoint(),
                "code=c&state=STATE&iss=https://as.example&iss=https://as.example",
                Some(Kind::InvalidResponse),
            ),
            (
                endpoint(),
                "response=e30.e30.x&state=STATE",
                Some(Kind::InvalidResponse),
            ),
            (endpoint(), "<html>404</html>", Some(Kind::StateMismatch)),
            (endpoint(), "", Some(Kind::StateMismatch)),
        ] {
            let (_, mut pending) = endpoint.begin(request(), "client").unwrap();
            let result = accept(&mut pending, response);
            assert_eq!(
                result.as_ref().err().map(AuthorizationError::kind),
                expected,
                "{response}"
            );

            // A response of somebody else does not end the sign-in. Every other one does, whatever it contains.
            let second = accept(&mut pending, "code=c&state=STATE&iss=https://as.example");
            match expected {
                Some(Kind::StateMismatch) => assert!(second.is_ok(), "{response}"),
                _ => assert_eq!(second.unwrap_err().kind(), Kind::AlreadyUsed, "{response}"),
            }
            let third = accept(&mut pending, "code=c&state=STATE");
            assert_eq!(third.unwrap_err().kind(), Kind::AlreadyUsed, "{response}");
        }
    }

    #[tokio::test]
    async fn metadata_that_promise_iss_make_it_necessary() {
        for (promise, is_necessary) in [
            (json!(true), true),
            (json!(false), false),
            (json!(null), false),
            (json!("true"), false),
        ] {
            let server = server()
                .metadata_field("authorization_response_iss_parameter_supported", promise)
                .build();
            let (_, mut pending) = discover(&server)
                .begin_authorization(request())
                .await
                .unwrap();
            let result = accept(&mut pending, "code=c&state=STATE");
            assert_eq!(
                result.err().map(|e| e.kind()),
                is_necessary.then_some(Kind::IssuerMismatch)
            );

            let (_, mut pending) = discover(&server)
                .begin_authorization(request())
                .await
                .unwrap();
            assert_eq!(pending.issuer(), Some(&*server.issuer()));
            accept(&mut pending, "code=c&state=STATE&iss=https://as.test").unwrap();
        }
    }

    #[test]
    fn the_error_of_the_server_is_readable_and_printed_safely() {
        let mut pending = begin();
        let response =
            "error=access_denied&error_description=no%0a%1b%5b31m&error_uri=https://x&state=STATE";
        let error = accept(&mut pending, response).unwrap_err();
        let said = error.error_response().unwrap();
        assert_eq!(*said.code(), ErrorCode::ACCESS_DENIED);
        assert_eq!(said.description(), Some("no\n\u{1b}[31m"));
        assert_eq!(said.uri(), Some("https://x"));
        assert_eq!(
            error.to_string(),
            r"the authorization server refused the request: access_denied (no\n\u{1b}[31m)"
        );
        let mut other = begin();
        assert!(
            accept(&mut other, "error=access_denied&state=x")
                .unwrap_err()
                .error_response()
                .is_none()
        );
    }

    #[test]
    fn a_form_post_and_a_whole_uri_are_accepted() {
        let mut pending = begin();
        let body = format!("code=c&state={}", pending.state());
        pending
            .accept(&AuthorizationResponse::from_form(&body))
            .unwrap();
        let mut pending = begin();
        let uri = format!("{REDIRECT_URI}?code=c&state={}#_=_", pending.state());
        pending
            .accept(&AuthorizationResponse::from_uri(&uri))
            .unwrap();
    }
}

mod token_request {
    use super::*;

    #[tokio::test]
    async fn it_contains_code_verifier_and_redirect_uri() {
        let (url, mut pending) = endpoint().begin(request(), "client").unwrap();
        let response = respond(&format!("code=a%2Bb&state={}", pending.state()));
        let request = pending.accept(&response).unwrap();
        let recorder = Recorder::good();
        recorder.endpoint(client()).oneshot(request).await.unwrap();
        let sent: HashMap<_, _> = form(recorder.take_one().body()).into_iter().collect();
        assert_eq!(sent["grant_type"], "authorization_code");
        assert_eq!(sent["code"], "a+b");
        assert_eq!(sent["redirect_uri"], REDIRECT_URI);
        assert_eq!(sent["code_verifier"].len(), 43);
        assert_eq!(sent.len(), 4);
        assert!(!url.contains(&sent["code_verifier"]));
    }

    #[tokio::test]
    async fn the_code_is_redeemed_and_the_source_lives_on_by_the_refresh_token() {
        let server = server()
            .access_token_lifetime(Duration::from_secs(60))
            .build();
        let endpoint = discover(&server);
        let request = request().scope("openid offline_access orders");
        let (url, mut pending) = endpoint.begin_authorization(request).await.unwrap();
        let back = AuthorizationResponse::from_uri(server.authorize(&url).unwrap());
        let request = pending.accept(&back).unwrap();

        let tokens = TokenCache::builder(endpoint).clock(server.clock()).build();
        let source = tokens.source(request);
        let first = source.token().await.unwrap();
        server.clock().advance(Duration::from_secs(61));
        let second = source.token().await.unwrap();
        assert_ne!(first.expose_secret(), second.expose_secret());
        let grants = server.requests();
        let grants: Vec<_> = grants
            .iter()
            .filter_map(|request| request.get("grant_type"))
            .collect();
        assert_eq!(grants, ["authorization_code", "refresh_token"]);
        assert_eq!(
            server.introspect(second.expose_secret())["scope"],
            "openid offline_access orders"
        );
    }

    #[tokio::test]
    async fn another_verifier_redeems_nothing() {
        let server = server().build();
        let endpoint = discover(&server);
        let (url, _) = endpoint.begin_authorization(request()).await.unwrap();
        let (_, mut other) = endpoint.begin_authorization(request()).await.unwrap();
        let stolen = server.authorize(&url).unwrap();
        let code = query(&stolen)["code"].clone();
        // The attacker knows the state of the victim, and injects the stolen code.
        let injected = respond(&format!(
            "code={code}&state={}&iss=https://as.test",
            other.state()
        ));
        let request = other.accept(&injected).unwrap();
        let error = endpoint.oneshot(request).await.unwrap_err();
        assert_eq!(
            *error.error_response().unwrap().code(),
            ErrorCode::INVALID_GRANT
        );
    }

    /// "the subsequent access token request, if applicable, is sent to the same issuer" (RFC 9700 §4.4.2).
    #[tokio::test]
    async fn a_code_is_not_sent_to_a_server_of_another_issuer() {
        let honest = server().build();
        let evil = server().issuer("https://evil.test").build();
        let key = DpopKey::generate().unwrap();
        let begin = || async {
            let (url, mut pending) = discover(&honest)
                .begin_authorization(request())
                .await
                .unwrap();
            let back = AuthorizationResponse::from_uri(honest.authorize(&url).unwrap());
            pending.accept(&back).unwrap()
        };
        let of_evil = discover(&evil);
        let cache = TokenCache::new(of_evil.clone());
        for error in [
            of_evil.clone().oneshot(begin().await).await.unwrap_err(),
            of_evil
                .clone()
                .dpop(key)
                .oneshot(begin().await)
                .await
                .unwrap_err(),
            cache.source(begin().await).token().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), TokenErrorKind::Request, "{error}");
            assert!(!error.may_have_been_processed());
            let why = "`https://as.test`, but this endpoint is of the issuer `https://evil.test`";
            assert!(error.to_string().contains(why), "{error}");
        }
        assert_eq!(evil.token_requests(), 0);

        // An endpoint without metadata has no issuer to compare.
        let known = TokenEndpoint::new(honest.clone(), honest.token_endpoint(), client());
        known.oneshot(begin().await).await.unwrap();
        // A refused code was not sent, so it is still good.
        let code = begin().await;
        cache.source(code.clone()).token().await.unwrap_err();
        let source = TokenCache::new(discover(&honest)).source(code);
        source.token().await.unwrap();
    }

    #[tokio::test]
    async fn a_refresh_token_is_not_sent_to_a_server_of_another_issuer() {
        let honest = server()
            .access_token_lifetime(Duration::from_secs(60))
            .build();
        let evil = server().issuer("https://evil.test").build();
        let (url, mut pending) = discover(&honest)
            .begin_authorization(request().scope("offline_access"))
            .await
            .unwrap();
        let back = AuthorizationResponse::from_uri(honest.authorize(&url).unwrap());
        let request = pending.accept(&back).unwrap();
        // The endpoint is chosen for each request, wrongly after the first one.
        let (first, later) = (discover(&honest), discover(&evil));
        let chosen = tower::service_fn(move |request: TokenRequest| {
            let is_first = request.grant_type() == "authorization_code";
            let endpoint = if is_first { &first } else { &later };
            endpoint.clone().oneshot(request)
        });
        let tokens = TokenCache::builder(chosen).clock(honest.clock()).build();
        let source = tokens.source(request);
        source.token().await.unwrap();
        honest.clock().advance(Duration::from_secs(61));
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request, "{error}");
        assert_eq!(evil.token_requests(), 0);
    }

    #[tokio::test]
    async fn the_code_is_bound_to_the_dpop_key() {
        let server = server().build();
        let [key, other] = [(), ()].map(|()| DpopKey::generate().unwrap());
        for pushed in [false, true] {
            let of_endpoint = (discover(&server).dpop(key.clone()), request());
            let of_request = (discover(&server), request().dpop(key.clone()));
            for (endpoint, request) in [of_endpoint, of_request] {
                let (url, mut pending) = endpoint
                    .begin_authorization(request.pushed(pushed))
                    .await
                    .unwrap();
                if !pushed {
                    assert_eq!(query(&url)["dpop_jkt"], key.thumbprint());
                }
                let back = AuthorizationResponse::from_uri(server.authorize(&url).unwrap());
                let request = pending.accept(&back).unwrap();
                let stolen = request.clone().dpop(other.clone());
                let error = endpoint.clone().oneshot(stolen).await.unwrap_err();
                assert!(
                    error.to_string().contains("bound to another key"),
                    "{error}"
                );
                let response = endpoint.oneshot(request).await.unwrap();
                assert_eq!(response.access_token().dpop_key(), Some(&key));
            }
        }
    }
}

mod id_tokens {
    use super::*;

    /// Redeems a code at a server that answers with an ID token with these claims.
    async fn redeem(claims: impl Fn(&str) -> Value) -> Result<TokenResponse, TokenError> {
        redeem_after(request().max_age(Duration::from_secs(300)), claims).await
    }

    async fn redeem_after(
        asked: AuthorizationRequest,
        claims: impl Fn(&str) -> Value,
    ) -> Result<TokenResponse, TokenError> {
        let asked = asked.scope("openid");
        let (url, mut pending) = endpoint().begin(asked, "client").unwrap();
        let id_token = id_token(&claims(&query(&url)["nonce"]));
        let response = respond(&format!("code=c&state={}", pending.state()));
        let request = pending.accept(&response).unwrap();
        let mut body: Value = serde_json::from_str(GOOD).unwrap();
        body["id_token"] = id_token.into();
        let recorder = Recorder::new(move |_| answer(200, body.to_string()));
        recorder.endpoint(client()).oneshot(request).await
    }

    fn good(nonce: &str) -> Value {
        #[allow(clippy::disallowed_methods, reason = "the rule is for `src/`")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap().as_secs();
        json!({
            "iss": ISSUER, "aud": "client", "nonce": nonce, "exp": now + 600, "iat": now, "sub": "jane",
            "auth_time": now - 10,
        })
    }

    #[tokio::test]
    async fn a_good_one_is_returned_and_readable() {
        let response = redeem(good).await.unwrap();
        let claims = IdTokenClaims::unverified(response.id_token().unwrap()).unwrap();
        assert_eq!(claims.sub(), Some("jane"));
        assert_eq!(claims.get("iss").unwrap(), ISSUER);
        assert_eq!(IdTokenClaims::unverified(&IdToken::new("opaque")), None);
    }

    /// Whatever is sent is checked, whichever setter was used.
    #[tokio::test]
    async fn a_maximum_age_is_checked_however_it_was_set() {
        for asked in [
            request().max_age(Duration::from_secs(300)),
            request().parameter("max_age", "300"),
        ] {
            redeem_after(asked.clone(), good).await.unwrap();
            let too_old = |nonce: &str| {
                let mut claims = good(nonce);
                claims["auth_time"] = (claims["iat"].as_u64().unwrap() - 400).into();
                claims
            };
            let error = redeem_after(asked, too_old).await.unwrap_err();
            assert!(
                error.to_string().contains("authenticated too long ago"),
                "{error}"
            );
        }
        redeem_after(request(), |nonce| {
            let mut claims = good(nonce);
            claims["auth_time"] = 0.into();
            claims
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_wrong_claim_fails_the_token_request() {
        for (name, value, expected) in [
            ("nonce", json!("other"), "belongs to another sign-in"),
            ("nonce", json!(null), "contains no `nonce`"),
            (
                "iss",
                json!("https://evil.example"),
                "is from another issuer, `https://evil.example`",
            ),
            ("aud", json!("other"), "is for another client"),
            (
                "aud",
                json!(["client", "other"]),
                "is also for other clients",
            ),
            ("azp", json!("other"), "was issued to another client"),
            ("exp", json!(1), "has expired"),
            ("auth_time", json!(1), "authenticated too long ago"),
        ] {
            let claims = |nonce: &str| {
                let mut claims = good(nonce);
                claims[name] = value.clone();
                claims
            };
            let error = redeem(claims).await.expect_err(name);
            assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
            assert_eq!(error.status(), Some(StatusCode::OK));
            let text = error.to_string();
            assert!(
                text.starts_with("the token endpoint returned an ID token that "),
                "{text}"
            );
            assert!(text.contains(expected), "{name}: {text}");
            assert!(!error.is_transient() && error.may_have_been_processed());
        }
    }

    #[tokio::test]
    async fn a_cache_uses_no_token_beside_a_wrong_id_token() {
        let checks = IdTokenChecks::new("client").nonce("n");
        let request = TokenRequest::authorization_code("c", REDIRECT_URI).id_token_checks(checks);
        let mut body: Value = serde_json::from_str(GOOD).unwrap();
        body["id_token"] = id_token(&good("another")).into();
        body["refresh_token"] = "R".into();
        let recorder = Recorder::new(move |_| answer(200, body.to_string()));
        let tokens = TokenCache::new(recorder.endpoint(client()));
        let source = tokens.source(request);
        assert!(source.token().await.is_err());
        assert!(source.token().await.is_err());
        assert!(source.peek().is_none());
        // The code was sent once, and the refresh token beside the wrong ID token was not used.
        assert_eq!(recorder.calls(), 1);
    }

    #[tokio::test]
    async fn the_checks_do_not_apply_to_renewals() {
        let server = server()
            .access_token_lifetime(Duration::from_secs(60))
            .build();
        let endpoint = discover(&server);
        let (url, mut pending) = endpoint
            .begin_authorization(request().scope("openid"))
            .await
            .unwrap();
        let back = AuthorizationResponse::from_uri(server.authorize(&url).unwrap());
        let tokens = TokenCache::builder(endpoint).clock(server.clock()).build();
        let source = tokens.source(pending.accept(&back).unwrap());
        source.token().await.unwrap();
        server.clock().advance(Duration::from_secs(61));
        // The ID token of a renewal need not contain the nonce (OpenID Connect Core §12.2).
        server.respond_next(http::Response::new(
            json!({"access_token": "T", "token_type": "Bearer", "expires_in": 60, "id_token": id_token(&json!({"aud": "client"}))})
                .to_string()
                .into(),
        ));
        assert_eq!(source.token().await.unwrap().expose_secret(), "T");
    }

    #[tokio::test]
    async fn without_checks_nothing_is_checked() {
        let mut body: Value = serde_json::from_str(GOOD).unwrap();
        body["id_token"] = "opaque".into();
        let recorder = Recorder::new(move |_| answer(200, body.to_string()));
        let request = TokenRequest::authorization_code("c", REDIRECT_URI);
        assert!(recorder.endpoint(client()).oneshot(request).await.is_ok());
    }
}

mod stored {
    use super::*;

    #[tokio::test]
    async fn a_restored_sign_in_accepts_the_response() {
        let server = server().build();
        let endpoint = discover(&server);
        let (url, pending) = endpoint
            .begin_authorization(request().scope("openid"))
            .await
            .unwrap();
        let text = pending.to_secret_string();
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)),
            "{text}"
        );
        assert!(text.len() < 1000, "{}", text.len());

        let mut restored = PendingAuthorization::from_secret_string(&text).unwrap();
        assert_eq!(restored.state(), pending.state());
        assert_eq!(restored.issuer(), pending.issuer());
        let back = server.authorize(&url).unwrap();
        let no_iss = back.split_once("&iss=").unwrap().0;
        let mut other = PendingAuthorization::from_secret_string(&text).unwrap();
        let error = other
            .accept(&AuthorizationResponse::from_uri(no_iss))
            .unwrap_err();
        assert_eq!(error.kind(), Kind::IssuerMismatch);

        let request = restored
            .accept(&AuthorizationResponse::from_uri(&back))
            .unwrap();
        endpoint.oneshot(request).await.unwrap();

        let used = PendingAuthorization::from_secret_string(&restored.to_secret_string());
        let error = used
            .unwrap()
            .accept(&AuthorizationResponse::from_uri(&back))
            .unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyUsed);
    }

    /// A browser that sends the response twice at once, with the same cookie.
    #[tokio::test]
    async fn a_sign_in_that_is_restored_twice_redeems_its_code_once() {
        let server = server().build();
        let endpoint = discover(&server);
        let (url, pending) = endpoint.begin_authorization(request()).await.unwrap();
        let stored = pending.to_secret_string();
        let back = server.authorize(&url).unwrap();
        let tokens = TokenCache::new(endpoint);
        let handle = || {
            let mut pending = PendingAuthorization::from_secret_string(&stored).unwrap();
            let request = pending
                .accept(&AuthorizationResponse::from_uri(&back))
                .unwrap();
            tokens.source(request)
        };
        let (first, second) = (handle(), handle());
        let (a, b) = tokio::join!(first.token(), second.token());
        assert_eq!(a.unwrap().expose_secret(), b.unwrap().expose_secret());
        drop((first, second));
        let _ = handle().token().await;
        assert_eq!(server.token_requests(), 1);
    }

    #[tokio::test]
    async fn a_restored_sign_in_takes_only_the_dpop_key_that_it_began_with() {
        let server = server().build();
        let [key, other] = [(), ()].map(|()| DpopKey::generate().unwrap());
        let endpoint = discover(&server);
        let request = request().dpop(key.clone());
        let (url, pending) = endpoint.begin_authorization(request).await.unwrap();
        let restore =
            || PendingAuthorization::from_secret_string(&pending.to_secret_string()).unwrap();
        let error = restore().dpop(other).unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request);
        let mut restored = restore().dpop(key.clone()).unwrap();
        let back = AuthorizationResponse::from_uri(server.authorize(&url).unwrap());
        let response = endpoint
            .oneshot(restored.accept(&back).unwrap())
            .await
            .unwrap();
        assert_eq!(response.access_token().dpop_key(), Some(&key));
    }
}

#[tokio::test]
async fn authorization_details_are_sent_by_any_grant_and_read_from_the_response() {
    let detail = AuthorizationDetail::new("payment").field("amount", json!({"eur": 5}));
    let recorder = Recorder::new(|_| {
        answer(
            200,
            GOOD.replace(
                '{',
                r#"{"authorization_details":[{"type":"payment","granted":true}],"#,
            ),
        )
    });
    let request = TokenRequest::client_credentials().authorization_details([detail.clone()]);
    assert_eq!(
        request,
        TokenRequest::client_credentials().authorization_details([detail])
    );
    let response = recorder
        .endpoint(client())
        .oneshot(request.clone())
        .await
        .unwrap();
    let sent = form(recorder.take_one().body());
    let expected = r#"[{"amount":{"eur":5},"type":"payment"}]"#;
    assert!(
        sent.contains(&("authorization_details".into(), expected.into())),
        "{sent:?}"
    );
    let granted = response.authorization_details().unwrap();
    assert_eq!(granted[0].detail_type(), "payment");
    assert_eq!(granted[0].get("granted"), Some(&json!(true)));

    let twice = request.authorization_details([AuthorizationDetail::new("other")]);
    let error = recorder
        .endpoint(client())
        .oneshot(twice)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Request);
    let none = TokenRequest::client_credentials().authorization_details([]);
    assert_eq!(none, TokenRequest::client_credentials());
}

/// Walks through everything that is public, with secrets in every place where one can be.
#[tokio::test]
async fn no_secret_is_printed() {
    const SENTINEL: &str = "S3NT1NEL";
    let asked = request()
        .scope("openid")
        .login_hint(SENTINEL)
        .id_token_hint(SENTINEL)
        .parameter("x", SENTINEL)
        .authorization_details([AuthorizationDetail::new("t").field("iban", SENTINEL)]);
    let (url, mut pending) = endpoint().begin(asked.clone(), "client").unwrap();
    let (pushed, _) = endpoint().begin_pushed(asked.clone(), "client").unwrap();
    let query = query(&url);
    let text = pending.to_secret_string();
    let json: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(&text).unwrap()).unwrap();
    let secrets = [
        SENTINEL,
        &query["state"],
        &query["nonce"],
        json["code_verifier"].as_str().unwrap(),
        &text,
    ];
    let mut shown = format!("{asked:?} {pending:?} {pushed:?} {:?}", endpoint());
    let mut add = |value: &dyn std::fmt::Debug| shown += &format!(" {value:?} {value:#?}");
    for response in [
        format!("code={SENTINEL}&state={SENTINEL}"),
        format!("code={SENTINEL}&code={SENTINEL}&state={}", pending.state()),
        format!("code={SENTINEL}&state={}", pending.state()),
    ] {
        let response = respond(&response);
        add(&response);
        let error = pending.accept(&response).unwrap_err();
        add(&error);
        add(&error.to_string());
    }
    let mut pending = PendingAuthorization::from_secret_string(&text).unwrap();
    let response = respond(&format!("code={SENTINEL}&state={}", pending.state()));
    add(&pending.accept(&response).unwrap());
    add(&PendingAuthorization::from_secret_string(SENTINEL).unwrap_err());
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
