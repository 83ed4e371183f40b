//! `ProtectedResource::discover`: what is asked, what is believed, and what a hostile API gets.
#![allow(clippy::disallowed_methods, reason = "a test measures time")]

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, header::LOCATION};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_oauth2_client::{
    BoxError, Challenge, NoAccessToken, NotSent, ProtectedResource, TokenError, TokenErrorKind,
};

use self::support::{Answer, Loopback, Script, answer, hyper_client};

const URL: &str = "https://api.test/mcp";
const AT_PATH: &str = "https://api.test/.well-known/oauth-protected-resource/mcp";
const AT_ROOT: &str = "https://api.test/.well-known/oauth-protected-resource";

fn document() -> Value {
    json!({ "resource": URL, "authorization_servers": ["https://as.test/t"] })
}

type Does = Arc<dyn Fn() -> BoxFuture<'static, Answer> + Send + Sync>;

/// An API that answers each URL in its own way, and any other with 404.
#[derive(Clone, Default)]
struct Api {
    does: HashMap<String, Does>,
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
}

impl Api {
    fn at(mut self, uri: &str, status: u16, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let does: Does =
            Arc::new(move || Box::pin(std::future::ready(answer(status, body.clone()))));
        self.does.insert(uri.to_owned(), does);
        self
    }

    fn json(self, uri: &str, document: &Value) -> Self {
        self.at(uri, 200, document.to_string())
    }

    fn with<F>(mut self, uri: &str, does: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        self.does
            .insert(uri.to_owned(), Arc::new(move || Box::pin(does())));
        self
    }

    fn asked(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .map(|request| request.uri().to_string())
            .collect()
    }

    async fn discover(&self) -> Result<ProtectedResource, TokenError> {
        ProtectedResource::discover(self.clone(), URL).await
    }
}

impl Service<Request<Full<Bytes>>> for Api {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let does = self.does.get(&request.uri().to_string()).cloned();
        let seen = self.seen.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            seen.lock().unwrap().push(Request::from_parts(parts, body));
            match does {
                Some(does) => does().await,
                None => answer(404, "not found"),
            }
        })
    }
}

/// The challenges of a 401 that names an address of metadata.
fn naming(uri: &str) -> Vec<Challenge> {
    Challenge::parse(&format!(
        "Bearer error=\"invalid_token\", resource_metadata=\"{uri}\""
    ))
}

#[tokio::test]
async fn the_well_known_address_of_the_path_is_asked_first() {
    let api = Api::default().json(
        AT_PATH,
        &json!({
            "resource": URL,
            "authorization_servers": ["https://as.test/t", 1, "https://other.test"],
            "scopes_supported": ["read", "write"],
            "bearer_methods_supported": ["header"],
            "authorization_details_types_supported": ["payment"],
            "dpop_signing_alg_values_supported": ["ES256"],
            "dpop_bound_access_tokens_required": true,
            "tls_client_certificate_bound_access_tokens": true,
            "resource_name": "API",
        }),
    );
    let resource = api.discover().await.unwrap();

    let list = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    assert_eq!(resource.resource(), URL);
    assert_eq!(
        resource.authorization_servers(),
        list(&["https://as.test/t", "https://other.test"])
    );
    for (found, expected) in [
        (resource.scopes_supported(), &["read", "write"][..]),
        (resource.bearer_methods_supported(), &["header"]),
        (
            resource.authorization_details_types_supported(),
            &["payment"],
        ),
        (resource.dpop_signing_alg_values_supported(), &["ES256"]),
    ] {
        assert_eq!(found, Some(&*list(expected)));
    }
    assert!(resource.dpop_bound_access_tokens_required());
    assert!(resource.tls_client_certificate_bound_access_tokens());
    assert_eq!(resource.get("resource_name").unwrap(), "API");
    assert_eq!(resource.json()["resource"], URL);
    assert_eq!(api.asked(), [AT_PATH]);
}

#[tokio::test]
async fn the_request_has_no_credentials_and_is_marked() {
    let api = Api::default().json(AT_PATH, &document());
    api.discover().await.unwrap();
    let seen = api.seen.lock().unwrap();
    assert_eq!(seen[0].method(), Method::GET);
    assert_eq!(seen[0].headers()["accept"], "application/json");
    assert_eq!(seen[0].headers()["accept-encoding"], "identity");
    assert_eq!(seen[0].headers().len(), 3);
    assert!(seen[0].body().is_empty());
    assert!(seen[0].extensions().get::<NoAccessToken>().is_some());
}

#[tokio::test]
async fn the_root_is_asked_if_the_path_has_no_usable_document() {
    let root =
        json!({ "resource": "https://api.test", "authorization_servers": ["https://as.test"] });
    for (status, body) in [
        (404, ""),
        (401, "{}"),
        (403, "<html>"),
        (301, ""),
        (200, ""),
        (200, "<!doctype html><title>App</title>"),
        (200, "{\"resource\""),
        (200, "[]"),
        (200, "{}"),
        (200, "{\"resource\": 1}"),
        (200, "{\"resource\": \"https://evil.test/mcp\"}"),
        (
            200,
            "{\"resource\": \"https://api.test/mcp\", \"authorization_servers\": [\"https://10.0.0.1\"]}",
        ),
    ] {
        let api = Api::default()
            .at(AT_PATH, status, body)
            .json(AT_ROOT, &root);
        let resource = api.discover().await.unwrap();
        assert_eq!(resource.resource(), "https://api.test", "{status} {body}");
        assert_eq!(api.asked(), [AT_PATH, AT_ROOT]);
    }
}

#[tokio::test]
async fn a_transient_failure_at_the_path_ends_the_search() {
    let root = json!({ "resource": "https://api.test" });
    for status in [408, 429, 500, 502, 503, 504] {
        let api = Api::default().at(AT_PATH, status, "").json(AT_ROOT, &root);
        let error = api.discover().await.unwrap_err();
        assert!(error.is_transient(), "{status}: {error}");
        assert_eq!(api.asked(), [AT_PATH], "{status}");
    }
    for is_sent in [true, false] {
        let api = Api::default()
            .json(AT_ROOT, &root)
            .with(AT_PATH, move || async move {
                Err(match is_sent {
                    true => "reset".into(),
                    false => NotSent::new("no route").into(),
                })
            });
        let error = api.discover().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Service);
        assert!(error.is_transient() && !error.may_have_been_processed());
        assert_eq!(api.asked(), [AT_PATH]);
    }
}

#[tokio::test]
async fn the_failure_that_explains_most_is_reported() {
    let wrong = json!({ "resource": "https://evil.test/mcp" }).to_string();
    let later = json!({ "resource": "https://later.test" }).to_string();
    for (path, root, expected) in [
        (
            (200, &*wrong),
            (200, &*later),
            "its `resource`, `https://evil.test/mcp`, has another origin",
        ),
        ((404, ""), (404, ""), "there are none; check the URL"),
        (
            (200, "<html>"),
            (404, ""),
            "the response is a page instead of JSON",
        ),
        (
            (404, ""),
            (200, "[]"),
            "the response is something other than a JSON object",
        ),
        (
            (200, &*wrong),
            (200, "{}"),
            "its `resource`, `https://evil.test/mcp`, has another origin",
        ),
        (
            (404, ""),
            (200, &*wrong),
            "its `resource`, `https://evil.test/mcp`, has another origin",
        ),
        ((200, &*wrong), (503, ""), "the server failed"),
    ] {
        let api = Api::default().at(AT_PATH, path.0, path.1.to_owned()).at(
            AT_ROOT,
            root.0,
            root.1.to_owned(),
        );
        let error = api.discover().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(
            error.contains("the metadata of the resource `https://api.test/mcp`"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn only_the_address_that_a_challenge_names_is_asked() {
    const NAMED: &str = "https://api.test/any/where?x=1";
    let mut challenges = Challenge::parse("Basic realm=\"x\", Bearer");
    challenges.extend(naming(NAMED));
    challenges.extend(naming(AT_ROOT));

    let api = Api::default().json(NAMED, &document());
    let discover = ProtectedResource::discover(api.clone(), URL).challenges(&challenges);
    assert_eq!(discover.await.unwrap().resource(), URL);
    assert_eq!(api.asked(), [NAMED]);

    let api = Api::default().json(AT_PATH, &document());
    let discover = ProtectedResource::discover(api.clone(), URL).challenges(&challenges);
    let error = discover.await.unwrap_err();
    assert_eq!(error.status().unwrap(), 404);
    assert_eq!(api.asked(), [NAMED]);

    let without = Challenge::parse("Basic realm=\"x\", Bearer");
    ProtectedResource::discover(api.clone(), URL)
        .challenges(&without)
        .await
        .unwrap();
    assert_eq!(api.asked(), [NAMED, AT_PATH]);
}

#[tokio::test]
async fn an_api_that_names_the_metadata_of_another_origin_gets_no_request() {
    for named in [
        "https://evil.test/.well-known/oauth-protected-resource",
        "http://api.test/.well-known/oauth-protected-resource/mcp",
        "https://api.test:8443/m",
        "https://api.test.evil.test/m",
        "https://api.test@evil.test/m",
        "https://evil.test@api.test/m",
        "https://169.254.169.254/latest/meta-data",
        "http://localhost/m",
        "/m",
        "file:///etc/passwd",
        "\u{202e}",
        "",
    ] {
        // It even has good metadata elsewhere.
        let api = Api::default()
            .json(named, &document())
            .json(AT_PATH, &document());
        let discover = ProtectedResource::discover(api.clone(), URL).challenges(&naming(named));
        let error = discover.await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse, "{named}");
        assert!(!error.is_transient() && !error.may_have_been_processed());
        let text = error.to_string();
        assert!(
            text.starts_with("the challenge of the resource names an address"),
            "{text}"
        );
        assert!(!text.contains('\u{202e}'));
        assert_eq!(api.asked(), [""; 0], "{named}");
    }
}

#[tokio::test]
async fn an_api_cannot_speak_for_another_one() {
    for resource in [
        "https://evil.test/mcp",
        "https://api.test.evil.test/mcp",
        "http://api.test/mcp",
        "https://api.test:8443/mcp",
        "https://api.test@evil.test/mcp",
        "https://api.test/mcp/deeper",
        "https://api.test/mc",
        "https://api.test/other",
        "https://api.test/mcp?tenant=1",
        "https://api.test/mcp#x",
        "https://api.test/%2e%2e/mcp",
        "urn:mcp",
        "",
    ] {
        let hostile = json!({ "resource": resource, "authorization_servers": ["https://as.test"] });
        let api = Api::default()
            .json(AT_PATH, &hostile)
            .json(AT_ROOT, &hostile);
        let error = api.discover().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse, "{resource}");
        assert!(error.to_string().contains("its `resource`, `"), "{error}");

        let api = Api::default().json(AT_PATH, &hostile);
        let discover = ProtectedResource::discover(api, URL).challenges(&naming(AT_PATH));
        assert!(discover.await.is_err(), "{resource}");
    }
}

#[tokio::test]
async fn an_api_cannot_make_the_client_call_internal_machines() {
    for issuer in [
        "http://as.test",
        "http://localhost:8080",
        "https://localhost",
        "https://localhost./t",
        "https://a.localhost",
        "https://127.0.0.1",
        "https://127.1/t",
        "https://2130706433",
        "https://0x7f000001",
        "https://0177.0.0.1",
        "https://10.0.0.1",
        "https://172.16.0.1",
        "https://192.168.1.1",
        "https://169.254.169.254/latest",
        "https://0.0.0.0",
        "https://[::1]",
        "https://[::]",
        "https://[::ffff:127.0.0.1]",
        "https://[::ffff:a9fe:a9fe]",
        "https://[64:ff9b::a9fe:a9fe]",
        "https://[fe80::1]",
        "https://[fd00:ec2::254]",
        "https://metadata.google.internal",
        "https://vault",
        "https://as.test?x=1",
        "https://as.test#x",
        "https://u:p@as.test",
        "file:///etc/passwd",
        "as.test",
        "",
    ] {
        let hostile = json!({ "resource": URL, "authorization_servers": [issuer] });
        let api = Api::default().json(AT_PATH, &hostile);
        let error = api.discover().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse, "{issuer}");
        let text = error.to_string();
        assert!(
            text.contains("it names an authorization server, `"),
            "{text}"
        );

        let mixed =
            json!({ "resource": URL, "authorization_servers": [issuer, "https://as.test"] });
        let resource = Api::default()
            .json(AT_PATH, &mixed)
            .discover()
            .await
            .unwrap();
        assert_eq!(resource.authorization_servers(), ["https://as.test"]);
    }
}

#[tokio::test]
async fn a_url_that_must_not_be_used_gets_no_request() {
    for (url, why) in [
        ("", "is empty"),
        ("api.test", "is not absolute"),
        ("ftp://api.test/", "is neither https nor http"),
        ("http://api.test/mcp", "is plain http"),
        ("https://u:SECRET@api.test/mcp", "contains a user name"),
        ("https://localhost/mcp", "is on this machine"),
        (
            "https://127.1/mcp",
            "has an address as its host that is not written",
        ),
        ("https://10.0.0.1/mcp", "is an address that is not public"),
        ("https://[fe80::1]/mcp", "is an address that is not public"),
        (
            "https://mcp.internal/",
            "has a host name that is not public",
        ),
        ("https://api.test/a/../mcp", "has a path with a segment"),
    ] {
        let api = Api::default();
        let error = ProtectedResource::discover(api.clone(), url)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request, "{url}");
        let expected = format!("the request was not sent: the URL of the resource {why}");
        let text = error.to_string();
        assert!(
            text.starts_with(&expected) && !text.contains("SECRET"),
            "{text}"
        );
        assert_eq!(api.asked(), [""; 0]);
    }
}

#[tokio::test]
async fn members_of_other_types_are_ignored_or_refused() {
    for odd in [
        json!(null),
        json!(1),
        json!("x"),
        json!({ "a": [1] }),
        json!([1, null]),
    ] {
        let mut document = document();
        for name in [
            "scopes_supported",
            "bearer_methods_supported",
            "dpop_bound_access_tokens_required",
            "tls_client_certificate_bound_access_tokens",
        ] {
            document[name] = odd.clone();
        }
        let api = Api::default().json(AT_PATH, &document);
        let resource = api.discover().await.unwrap();
        let expected = odd.is_array().then_some(&[][..]);
        assert_eq!(resource.scopes_supported(), expected, "{odd}");
        assert!(!resource.dpop_bound_access_tokens_required(), "{odd}");
        assert!(
            !resource.tls_client_certificate_bound_access_tokens(),
            "{odd}"
        );

        document["authorization_servers"] = odd.clone();
        let found = Api::default().json(AT_PATH, &document).discover().await;
        match odd {
            Value::Null | Value::Array(_) => {
                assert_eq!(found.unwrap().authorization_servers(), [""; 0]);
            }
            _ => {
                let error = found.unwrap_err().to_string();
                assert!(
                    error.contains("its `authorization_servers` is not a list"),
                    "{error}"
                );
            }
        }
        document["resource"] = odd;
        Api::default()
            .json(AT_PATH, &document)
            .discover()
            .await
            .unwrap_err();
    }
}

#[tokio::test]
async fn a_repeated_member_that_decides_is_refused() {
    for repeated in [
        "\"resource\": \"https://evil.test\"",
        "\"authorization_servers\": [\"https://evil.test\"]",
        "\"authorization\\u005fservers\": []",
    ] {
        let good = document().to_string();
        let inside = good.trim_matches(['{', '}']);
        for body in [
            format!("{{{inside}, {repeated}}}"),
            format!("{{{repeated}, {inside}}}"),
        ] {
            let error = Api::default().at(AT_PATH, 200, body).discover().await;
            let error = error.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
            assert!(error.to_string().contains("twice"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_document_without_authorization_servers_is_returned() {
    let api = Api::default().json(AT_PATH, &json!({ "resource": URL }));
    let resource = api.discover().await.unwrap();
    assert_eq!(resource.authorization_servers(), [""; 0]);
    assert_eq!(resource.scopes_supported(), None);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let redirect = move || async move {
            let mut response = answer(status, "")?;
            response.headers_mut().insert(LOCATION, AT_ROOT.parse()?);
            Ok(response)
        };
        let api = Api::default()
            .with(AT_PATH, redirect)
            .json(AT_ROOT, &document());
        let discover =
            |api: &Api| ProtectedResource::discover(api.clone(), URL).challenges(&naming(AT_PATH));
        let error = discover(&api).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus, "{status}");
        assert!(
            error
                .to_string()
                .contains("a redirect, which is not followed"),
            "{error}"
        );
        assert_eq!(api.asked(), [AT_PATH]);

        // Below, a layer follows it. What it returns is not believed.
        let following = ServiceBuilder::new()
            .layer(FollowRedirectLayer::new())
            .service(api.clone());
        let discover = ProtectedResource::discover(following, URL).challenges(&naming(AT_PATH));
        let error = discover.await.unwrap_err();
        assert!(error.to_string().contains("redirect"), "{error}");
    }
}

#[tokio::test]
async fn a_body_above_the_limit_is_an_error() {
    let mut large = document();
    large["x"] = json!("x".repeat(1024 * 1024));
    let api = Api::default().json(AT_PATH, &large);
    let error = api.discover().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::BodyTooLarge);

    let len = document().to_string().len();
    for (limit, is_good) in [(len, true), (len - 1, false)] {
        let api = Api::default().json(AT_PATH, &document());
        let discover = ProtectedResource::discover(api, URL).max_response_body(limit);
        assert_eq!(discover.await.is_ok(), is_good);
    }
}

#[tokio::test(start_paused = true)]
async fn all_addresses_share_one_time_limit() {
    const SECOND: Duration = Duration::from_secs(1);
    let slowly = |seconds: u32, status| {
        move || async move {
            sleep(seconds * SECOND).await;
            answer(status, document().to_string())
        }
    };
    for (path, root, limit, expected) in [
        (20, 5, None, Ok(())),
        (20, 11, None, Err(30)),
        (1000, 0, None, Err(30)),
        (3, 3, Some(5), Err(5)),
    ] {
        let api = Api::default()
            .with(AT_PATH, slowly(path, 404))
            .with(AT_ROOT, slowly(root, 200));
        let mut discover = ProtectedResource::discover(api, URL);
        if let Some(limit) = limit {
            discover = discover.timeout(limit * SECOND);
        }
        let begun = Instant::now();
        match (discover.await, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(seconds)) => {
                assert_eq!(error.kind(), TokenErrorKind::Timeout);
                assert!(error.is_transient());
                assert_eq!(begun.elapsed().as_secs(), seconds);
            }
            (found, _) => panic!("{found:?}"),
        }
    }
}

#[tokio::test]
async fn internal_addresses_and_plain_http_need_a_setting() {
    let server = Loopback::start(|_| {
        let document = json!({ "resource": "http://127.0.0.1", "authorization_servers": ["https://10.0.0.1"] });
        Script::answer(200, "", &document.to_string())
    })
    .await;
    let uri = server.uri();
    let error = ProtectedResource::discover(hyper_client(), &uri)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Request);
    assert_eq!(server.connections(), 0);

    // The resource in the document lacks the port.
    let discover = ProtectedResource::discover(hyper_client(), &uri);
    let error = discover
        .danger_allow_internal_addresses()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another origin"), "{error}");

    let at = "http://api.test/.well-known/oauth-protected-resource";
    let found =
        json!({ "resource": "http://api.test", "authorization_servers": ["http://as.test"] });
    let api = Api::default().json(at, &found);
    let discover = ProtectedResource::discover(api, "http://api.test").danger_allow_http();
    assert_eq!(
        discover.await.unwrap().authorization_servers(),
        ["http://as.test"]
    );

    // One setting is not the other.
    let found =
        json!({ "resource": "http://api.test", "authorization_servers": ["http://localhost"] });
    let api = Api::default().json(at, &found);
    let discover = ProtectedResource::discover(api.clone(), "http://api.test").danger_allow_http();
    discover.await.unwrap_err();
    let discover = ProtectedResource::discover(api, "http://api.test");
    discover
        .danger_allow_internal_addresses()
        .await
        .unwrap_err();

    let at = "http://localhost:8000/.well-known/oauth-protected-resource";
    let found = json!({ "resource": "http://localhost:8000", "authorization_servers": ["http://127.0.0.1:9000"] });
    let api = Api::default().json(at, &found);
    let discover = ProtectedResource::discover(api, "http://localhost:8000/");
    let resource = discover.danger_allow_internal_addresses().await.unwrap();
    assert_eq!(resource.authorization_servers(), ["http://127.0.0.1:9000"]);
}

#[tokio::test]
async fn another_body_type_can_be_used() {
    let http = Api::default()
        .json(AT_PATH, &document())
        .map_request(|request: Request<Body>| request.map(|_| Full::default()));
    let discover = ProtectedResource::discover(http, URL).request_body(Body::from);
    assert_eq!(discover.await.unwrap().resource(), URL);
}

#[tokio::test]
async fn a_challenge_in_the_headers_of_a_response_leads_to_the_metadata() {
    let mut headers = HeaderMap::new();
    let challenge = format!("Bearer resource_metadata=\"{AT_ROOT}\", scope=\"read\"");
    headers.insert("www-authenticate", challenge.parse().unwrap());
    let api = Api::default().json(AT_ROOT, &document());
    let discover = ProtectedResource::discover(api, URL).challenges(&Challenge::all(&headers));
    assert_eq!(
        discover.await.unwrap().authorization_servers(),
        ["https://as.test/t"]
    );
}

#[tokio::test]
async fn debug_output_shows_no_query_and_no_user() {
    let api = Api::default().json(AT_PATH, &document());
    let discover =
        ProtectedResource::discover(api.clone(), "https://u:SECRET@api.test/mcp?key=SECRET");
    assert!(!format!("{discover:?}").contains("SECRET"));
    let shown = format!("{:?}", api.discover().await.unwrap());
    assert!(
        shown.contains(URL) && shown.contains("https://as.test/t"),
        "{shown}"
    );
}
