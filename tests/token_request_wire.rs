//! What is sent for each token request, and which requests are refused before anything is sent.

mod support;

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Service, ServiceExt, limit::ConcurrencyLimit};
use tower_oauth2_client::{
    AccessToken, BoxError, ClientAuthentication, ClientSecret, Credential, IdToken, NoAccessToken,
    RefreshToken, Scope, TokenEndpoint, TokenErrorKind, TokenRequest, TokenType,
};

use self::support::{Recorder, basic, form, form_decode, owned};

const ODD: &str = " +&=%:~*é";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn public() -> ClientAuthentication {
    ClientAuthentication::none("c")
}

async fn send(client: ClientAuthentication, request: TokenRequest) -> Request<Bytes> {
    let recorder = Recorder::good();
    let endpoint = recorder.endpoint(client);
    endpoint
        .oneshot(request)
        .await
        .expect("the request should be valid");
    recorder.take_one()
}

/// Sends the request from a public client and returns the pairs of its body, without the `client_id` at the end.
async fn pairs(request: TokenRequest) -> Vec<(String, String)> {
    let sent = send(public(), request).await;
    let mut pairs = form(sent.body());
    assert_eq!(pairs.pop(), owned(&[("client_id", "c")]).pop());
    pairs
}

type Pairs = &'static [(&'static str, &'static str)];

fn grants() -> Vec<(TokenRequest, Pairs)> {
    vec![
        (
            TokenRequest::client_credentials(),
            &[("grant_type", "client_credentials")],
        ),
        (
            TokenRequest::password("joe doe", "p+w"),
            &[
                ("grant_type", "password"),
                ("username", "joe doe"),
                ("password", "p+w"),
            ],
        ),
        (
            TokenRequest::authorization_code("abc", "https://app.example/cb?x=1&y=2"),
            &[
                ("grant_type", "authorization_code"),
                ("code", "abc"),
                ("redirect_uri", "https://app.example/cb?x=1&y=2"),
            ],
        ),
        (
            TokenRequest::refresh_token("r/1"),
            &[("grant_type", "refresh_token"), ("refresh_token", "r/1")],
        ),
        (
            TokenRequest::device_code("d"),
            &[
                ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                ("device_code", "d"),
            ],
        ),
        (
            TokenRequest::token_exchange("s", "urn:ietf:params:oauth:token-type:access_token"),
            &[
                (
                    "grant_type",
                    "urn:ietf:params:oauth:grant-type:token-exchange",
                ),
                ("subject_token", "s"),
                (
                    "subject_token_type",
                    "urn:ietf:params:oauth:token-type:access_token",
                ),
            ],
        ),
        (
            TokenRequest::jwt_bearer("e30.e30."),
            &[
                ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                ("assertion", "e30.e30."),
            ],
        ),
        (
            TokenRequest::saml2_bearer("PHM-"),
            &[
                (
                    "grant_type",
                    "urn:ietf:params:oauth:grant-type:saml2-bearer",
                ),
                ("assertion", "PHM-"),
            ],
        ),
        (
            TokenRequest::ciba("1c26"),
            &[
                ("grant_type", "urn:openid:params:grant-type:ciba"),
                ("auth_req_id", "1c26"),
            ],
        ),
        (
            TokenRequest::extension("urn:example:badge"),
            &[("grant_type", "urn:example:badge")],
        ),
    ]
}

fn clients() -> Vec<(ClientAuthentication, Option<&'static str>, Pairs)> {
    const JWT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    const SAML2: &str = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer";
    vec![
        (public(), None, &[("client_id", "c")]),
        (
            ClientAuthentication::client_secret_basic("c", "s"),
            Some("Basic Yzpz"),
            &[],
        ),
        (
            ClientAuthentication::client_secret_basic_raw("c", "s"),
            Some("Basic Yzpz"),
            &[],
        ),
        (
            ClientAuthentication::client_secret_post("c", "s"),
            None,
            &[("client_id", "c"), ("client_secret", "s")],
        ),
        (
            ClientAuthentication::tls_client_auth("c"),
            None,
            &[("client_id", "c")],
        ),
        (
            ClientAuthentication::client_assertion("c", "a.b.c"),
            None,
            &[
                ("client_id", "c"),
                ("client_assertion_type", JWT),
                ("client_assertion", "a.b.c"),
            ],
        ),
        (
            ClientAuthentication::saml2_client_assertion("c", "PHM-"),
            None,
            &[
                ("client_id", "c"),
                ("client_assertion_type", SAML2),
                ("client_assertion", "PHM-"),
            ],
        ),
    ]
}

#[tokio::test]
async fn every_grant_and_client_authentication_sends_exactly_the_expected_form() {
    for (request, grant) in grants() {
        for (client, authorization, credentials) in clients() {
            let sent = send(client.clone(), request.clone()).await;
            let case = format!("{request:?} {client:?}");

            assert_eq!(
                form(sent.body()),
                owned(&[grant, credentials].concat()),
                "{case}"
            );
            assert_eq!(sent.method(), Method::POST, "{case}");
            assert_eq!(*sent.uri(), support::URI, "{case}");
            let headers = sent.headers();
            assert_eq!(headers[ACCEPT], "application/json", "{case}");
            assert_eq!(
                headers[CONTENT_TYPE], "application/x-www-form-urlencoded",
                "{case}"
            );
            let found = headers.get(AUTHORIZATION);
            assert_eq!(
                found.map(HeaderValue::as_bytes),
                authorization.map(str::as_bytes),
                "{case}"
            );
            assert!(found.is_none_or(HeaderValue::is_sensitive), "{case}");
            assert_eq!(
                headers.len(),
                4 + usize::from(authorization.is_some()),
                "unexpected headers: {case}"
            );
        }
    }
}

#[tokio::test]
async fn setters_add_their_parameters_in_call_order() {
    let base = TokenRequest::client_credentials;
    for (request, expected) in [
        (base().scope("a b"), &[("scope", "a b")] as Pairs),
        (
            base().scope(Scope::from_iter(["b", "a"])),
            &[("scope", "b a")],
        ),
        (base().scope(""), &[]),
        (base().scope("  "), &[]),
        (
            base()
                .resource("https://a.example/")
                .audience("x")
                .resource("https://b.example/?q=1")
                .audience("y"),
            &[
                ("resource", "https://a.example/"),
                ("audience", "x"),
                ("resource", "https://b.example/?q=1"),
                ("audience", "y"),
            ],
        ),
        (
            base().code_verifier(VERIFIER),
            &[("code_verifier", VERIFIER)],
        ),
        (
            base().actor_token("act", "urn:t"),
            &[("actor_token", "act"), ("actor_token_type", "urn:t")],
        ),
        (
            base().requested_token_type("urn:t"),
            &[("requested_token_type", "urn:t")],
        ),
        (
            base().parameter("z", "1").parameter("a", "0"),
            &[("z", "1"), ("a", "0")],
        ),
        (
            base()
                .repeated_parameter("role", "r")
                .repeated_parameter("role", "r")
                .repeated_parameter("role", "w"),
            &[("role", "r"), ("role", "r"), ("role", "w")],
        ),
        (
            base().parameter(ODD, ODD).parameter("é\n\0&", "\r\n"),
            &[(ODD, ODD), ("é\n\0&", "\r\n")],
        ),
    ] {
        let sent = pairs(request).await;
        assert_eq!(sent[1..], owned(expected), "{expected:?}");
    }
}

#[tokio::test]
async fn typed_secrets_are_sent_as_their_text() {
    let token = AccessToken::new("at", TokenType::BEARER).unwrap();
    let (refresh_token, id_token) = (RefreshToken::new("rt"), IdToken::new("it"));
    let secret = ClientSecret::new("pw");
    let by_reference = TokenRequest::token_exchange(&token, "t");
    for (request, expected) in [
        (
            TokenRequest::refresh_token(RefreshToken::new("rt")),
            ("refresh_token", "rt"),
        ),
        (
            TokenRequest::refresh_token(&refresh_token),
            ("refresh_token", "rt"),
        ),
        (
            TokenRequest::token_exchange(&id_token, "t"),
            ("subject_token", "it"),
        ),
        (TokenRequest::password("u", &secret), ("password", "pw")),
        (
            TokenRequest::token_exchange(
                Credential::from_fn(move || std::future::ready(Ok::<_, Infallible>(token.clone()))),
                "t",
            ),
            ("subject_token", "at"),
        ),
        (
            TokenRequest::token_exchange(IdToken::new("it"), "t"),
            ("subject_token", "it"),
        ),
        (by_reference, ("subject_token", "at")),
        (
            TokenRequest::password("u", ClientSecret::new("pw")),
            ("password", "pw"),
        ),
    ] {
        let sent = pairs(request).await;
        assert!(sent.contains(&owned(&[expected])[0]), "{sent:?}");
    }
}

/// Client identification is optional in RFC 7523 section 2.1 and RFC 8693 section 2.1.
#[tokio::test]
async fn an_anonymous_client_adds_nothing() {
    let anonymous = ClientAuthentication::anonymous;
    let sent = send(anonymous(), TokenRequest::jwt_bearer("a.b.c")).await;
    let grant_type = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let expected = owned(&[("grant_type", grant_type), ("assertion", "a.b.c")]);
    assert_eq!(form(sent.body()), expected);
    assert!(!sent.headers().contains_key(AUTHORIZATION));
    assert_eq!(format!("{:?}", anonymous()), "anonymous");
    assert_ne!(anonymous(), ClientAuthentication::none(""));

    let request = TokenRequest::jwt_bearer("a.b.c").parameter("client_id", "c");
    let sent = send(anonymous(), request).await;
    let last = form(sent.body()).pop();
    assert_eq!(last, owned(&[("client_id", "c")]).pop());
}

#[tokio::test]
async fn a_scope_is_a_text_or_a_list_and_later_words_are_added() {
    let base = TokenRequest::client_credentials;
    let scope = Scope::from("a b");
    let text = String::from("a b");
    let list = vec!["a".to_owned(), "b".to_owned()];
    let borrowed: &[&str; 2] = &["a", "b"];
    let slice: &[&str] = borrowed;
    let words = std::collections::BTreeSet::from(["b", "a"]);
    for request in [
        base().scope("a b"),
        base().scope(&text),
        base().scope(text.as_str()),
        base().scope(text.clone()),
        base().scope(text.clone().into_boxed_str()),
        base().scope(std::borrow::Cow::from(&text)),
        base().scope(&scope),
        base().scope(scope.clone()),
        base().scope(["a", "b"]),
        base().scope(borrowed),
        base().scope(["a".to_owned(), "b".to_owned()]),
        base().scope(slice),
        base().scope(vec!["a", "b"]),
        base().scope(&list),
        base().scope(list.as_slice()),
        base().scope(list.clone()),
        base().scope(Scope::from_iter(words)),
        base().scope(["a b"]),
        base().scope("a").scope("b"),
        base().scope("a").scope(["b", "a"]).scope("").scope("b  a"),
        base().scope("").scope("a").scope([""; 0]).scope("b"),
        base().parameter("scope", "a").scope("b"),
        base().parameter("scope", "").scope("a b"),
    ] {
        assert_eq!(request, base().scope("b a"));
        let sent = pairs(request).await;
        assert_eq!(sent[1], ("scope".to_owned(), "a b".to_owned()), "{sent:?}");
        assert_eq!(sent.len(), 2, "{sent:?}");
    }
    // The scope keeps its place.
    let sent = pairs(base().scope("b").audience("x").scope("a c b")).await;
    assert_eq!(sent[1..3], owned(&[("scope", "b a c"), ("audience", "x")]));
    assert_eq!(
        base().scope("b").audience("x").scope("a"),
        base().scope("a b").audience("x")
    );
    assert_ne!(
        base().scope("b").audience("x"),
        base().audience("x").scope("b")
    );
}

#[tokio::test]
async fn an_empty_scope_is_not_sent_whoever_sets_it() {
    let base = TokenRequest::client_credentials;
    for empty in ["", " ", "   "] {
        let provided = Credential::from_fn(move || async move { Ok::<_, Infallible>(empty) });
        for request in [
            base().scope(empty),
            base().scope([empty, empty]),
            base().scope(empty).scope(empty),
            base().parameter("scope", empty),
            base().repeated_parameter("scope", empty),
        ] {
            assert_eq!(request, base());
            assert_eq!(pairs(request).await.len(), 1, "{empty:?}");
        }
        let request = base().parameter("scope", provided);
        assert_eq!(pairs(request).await.len(), 1, "{empty:?}");
    }
}

/// RFC 6749 appendix A.4 allows one space between two scopes, and none before or after.
#[tokio::test]
async fn scopes_are_separated_by_one_space() {
    let provided = Credential::from_fn(|| async { Ok::<_, Infallible>(" b   a ") });
    let base = TokenRequest::client_credentials;
    for request in [
        base().scope(" b  a "),
        base().parameter("scope", " b  a"),
        base().parameter("scope", provided),
    ] {
        assert_eq!(pairs(request).await[1].1, "b a");
    }
}

#[tokio::test]
async fn special_characters_survive_every_client_authentication() {
    let encoded = "+%2B%26%3D%25%3A%7E*%C3%A9";

    let sent = send(
        ClientAuthentication::client_secret_basic(ODD, ODD),
        TokenRequest::client_credentials(),
    )
    .await;
    let pair = basic(sent.headers());
    assert_eq!(pair, format!("{encoded}:{encoded}"));
    let (id, secret) = pair.split_once(':').unwrap();
    assert_eq!((&*form_decode(id), &*form_decode(secret)), (ODD, ODD));

    let raw_id = ODD.replace(':', "");
    let sent = send(
        ClientAuthentication::client_secret_basic_raw(raw_id.clone(), ODD),
        TokenRequest::client_credentials(),
    )
    .await;
    assert_eq!(basic(sent.headers()), format!("{raw_id}:{ODD}"));

    for (client, names) in [
        (
            ClientAuthentication::client_secret_post(ODD, ODD),
            &["client_id", "client_secret"] as &[_],
        ),
        (
            ClientAuthentication::client_assertion(ODD, ODD),
            &["client_id", "client_assertion"],
        ),
        (ClientAuthentication::none(ODD), &["client_id"]),
        (ClientAuthentication::tls_client_auth(ODD), &["client_id"]),
    ] {
        let sent = send(client, TokenRequest::client_credentials()).await;
        let body = form(sent.body());
        for name in names {
            assert!(body.contains(&owned(&[(name, ODD)])[0]), "{name}: {body:?}");
        }
        assert!(!sent.headers().contains_key(AUTHORIZATION));
        let text = std::str::from_utf8(sent.body()).unwrap();
        assert!(text.contains(&format!("client_id={encoded}")), "{text}");
    }
}

#[tokio::test]
async fn headers_are_added_in_order_and_accept_can_be_replaced() {
    let request = TokenRequest::client_credentials()
        .header("x-request-id", "1")
        .header("x-request-id", "2")
        .header("accept", "application/jwt");
    let sent = send(public(), request).await;
    let ids: Vec<_> = sent.headers().get_all("x-request-id").iter().collect();
    assert_eq!(ids, ["1", "2"]);
    let accept: Vec<_> = sent.headers().get_all(ACCEPT).iter().collect();
    assert_eq!(accept, ["application/jwt"]);
    assert_eq!(sent.headers().len(), 6);
}

#[tokio::test]
async fn headers_that_carry_secrets_are_marked_sensitive() {
    const SECRET: [&str; 16] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "dpop",
        "x-api-key",
        "api-key",
        "apikey",
        "x-auth-token",
        "x-vault-token",
        "ocp-apim-subscription-key",
        "x-functions-key",
        "X-Client-Secret",
        "x-password",
        "x-goog-iap-jwt-assertion",
        "x-amz-security-token",
        "x-hub-signature-256",
    ];
    const PLAIN: [&str; 4] = ["x-plain", "x-request-id", "accept-language", "x-tenant"];
    let mut marked = HeaderValue::from_static("s");
    marked.set_sensitive(true);
    let mut request = TokenRequest::client_credentials().header("x-marked", marked);
    for name in SECRET.into_iter().chain(PLAIN) {
        request = request.header(name, format!("value of {name}"));
    }
    assert!(!format!("{request:?} {request:#?}").contains("value of"));
    let sent = send(public(), request).await;
    for name in SECRET.into_iter().chain(["x-marked"]) {
        assert!(sent.headers()[name].is_sensitive(), "{name}");
    }
    for name in PLAIN {
        assert!(!sent.headers()[name].is_sensitive(), "{name}");
    }
    let shown = format!("{:?}", sent.headers());
    assert_eq!(shown.matches("value of").count(), PLAIN.len(), "{shown}");
}

#[tokio::test]
async fn the_first_of_two_invalid_headers_is_named() {
    let request = TokenRequest::client_credentials()
        .header("x-first", "\n")
        .header("x-second", "\n");
    assert_refused(public(), request, "`x-first`").await;
}

#[tokio::test]
async fn the_http_service_is_accessible() {
    let recorder = Recorder::good();
    let mut endpoint = recorder.endpoint(public());
    let request = TokenRequest::client_credentials();
    endpoint
        .get_mut()
        .clone()
        .oneshot(Request::default())
        .await
        .unwrap();
    assert_eq!(endpoint.get_ref().calls(), 1);
    endpoint.clone().oneshot(request).await.unwrap();
    assert_eq!(endpoint.into_inner().calls(), 2);
}

#[tokio::test]
async fn a_public_client_may_set_its_own_authorization_header() {
    let request = TokenRequest::client_credentials().header("authorization", "Negotiate x");
    let sent = send(public(), request).await;
    assert_eq!(sent.headers()[AUTHORIZATION], "Negotiate x");
}

#[tokio::test]
async fn a_public_client_may_set_its_own_client_secret() {
    let request = TokenRequest::client_credentials().parameter("client_secret", "s");
    let sent = pairs(request).await;
    assert_eq!(sent[1..], owned(&[("client_secret", "s")]));
}

#[tokio::test]
async fn a_request_may_name_another_endpoint_and_another_client() {
    let recorder = Recorder::good();
    let endpoint = recorder.endpoint(ClientAuthentication::client_secret_basic("c", "s"));
    let request = TokenRequest::client_credentials()
        .token_endpoint("https://blue.example/t?p=1")
        .client_authentication(ClientAuthentication::client_secret_post("blue", "b"));
    endpoint.clone().oneshot(request).await.unwrap();
    let sent = recorder.take_one();
    assert_eq!(*sent.uri(), "https://blue.example/t?p=1");
    assert!(!sent.headers().contains_key(AUTHORIZATION));
    let client = [("client_id", "blue"), ("client_secret", "b")];
    assert_eq!(form(sent.body())[1..], owned(&client));

    let request = TokenRequest::client_credentials();
    endpoint.oneshot(request).await.unwrap();
    let sent = recorder.take_one();
    assert_eq!(
        *sent.uri(),
        support::URI,
        "a request must not affect the next one"
    );
    assert_eq!(basic(sent.headers()), "c:s");
}

#[tokio::test]
async fn equal_requests_are_sent_as_equal_bytes() {
    for (request, _) in grants() {
        for (client, ..) in clients() {
            let request = request.clone().scope("a").resource("https://r.example/");
            let first = send(client.clone(), request.clone()).await;
            let second = send(client, request).await;
            assert_eq!(first.body(), second.body());
            assert_eq!(first.headers(), second.headers());
        }
    }
}

#[tokio::test]
async fn changing_a_clone_does_not_change_the_original() {
    let first = TokenRequest::client_credentials().scope("a");
    let _second = first
        .clone()
        .parameter("x", "1")
        .header("x-a", "1")
        .context(7_u8);
    assert!(first.get_context::<u8>().is_none());
    let sent = send(public(), first).await;
    assert_eq!(
        form(sent.body()),
        owned(&[
            ("grant_type", "client_credentials"),
            ("scope", "a"),
            ("client_id", "c")
        ])
    );
    assert!(!sent.headers().contains_key("x-a"));
}

#[tokio::test]
async fn a_provider_is_called_for_every_attempt() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let assertion = Credential::from_fn(move || {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, Infallible>(format!("a{number}")) }
    });
    let recorder = Recorder::good();
    let endpoint = recorder.endpoint(ClientAuthentication::client_assertion("c", "fixed"));
    let request = TokenRequest::jwt_bearer(assertion);
    assert_eq!(
        calls.load(Ordering::SeqCst),
        0,
        "the provider was called too early"
    );
    for expected in ["a0", "a1", "a2"] {
        endpoint.clone().oneshot(request.clone()).await.unwrap();
        let body = form(recorder.take_one().body());
        assert_eq!(body[1], owned(&[("assertion", expected)])[0]);
        assert_eq!(body[4], owned(&[("client_assertion", "fixed")])[0]);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_file_is_read_for_every_attempt_without_the_white_space_around_its_secret() {
    let path = std::env::temp_dir().join(format!("tower-oauth2-client-{}", std::process::id()));
    let recorder = Recorder::good();
    let endpoint = recorder.endpoint(ClientAuthentication::client_secret_basic(
        "c",
        Credential::file(&path),
    ));
    let request = TokenRequest::client_credentials();
    for (content, secret) in [
        ("one\n", "one"),
        (" two \r\n\r\n", "two"),
        ("three", "three"),
        ("\u{feff}four\r\n", "four"),
        (
            "\n\t  five words in\ntwo lines\n",
            "five words in\ntwo lines",
        ),
    ] {
        std::fs::write(&path, content).unwrap();
        endpoint.clone().oneshot(request.clone()).await.unwrap();
        let pair = basic(recorder.take_one().headers());
        assert_eq!(form_decode(pair.split_once(':').unwrap().1), secret);
    }

    let long = vec![b'x'; 1024 * 1024 + 1];
    for (content, named) in [
        (Some(b"" as &[u8]), "it is empty"),
        (Some(b" \n"), "it is empty"),
        (Some(b"\xef\xbb\xbf\r\n"), "it is empty"),
        (Some(b"\xff"), "it is not UTF-8"),
        (Some(&long), "it is larger than 1 MiB"),
        (None, "cannot read"),
    ] {
        match content {
            Some(content) => std::fs::write(&path, content).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let error = endpoint.clone().oneshot(request.clone()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Credential, "{named}");
        assert!(!error.may_have_been_processed());
        let shown = error.to_string();
        assert!(shown.contains(named), "{shown}");
        assert!(shown.contains(&*path.to_string_lossy()), "{shown}");
    }
    assert_eq!(recorder.calls(), 5);
}

/// A secret of Kubernetes is a link to a file. A pipe, such as that of a process substitution, would block a thread for each attempt.
#[cfg(unix)]
#[test]
fn a_file_that_is_no_regular_file_blocks_no_thread() {
    let directory = std::env::temp_dir().join(format!("tower-oauth2-pipe-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let [pipe, link_to_pipe, socket, file, link_to_file] =
        ["pipe", "link-to-pipe", "socket", "file", "link-to-file"].map(|name| directory.join(name));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    std::os::unix::fs::symlink(&pipe, &link_to_pipe).unwrap();
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::write(&file, "secret\n").unwrap();
    std::os::unix::fs::symlink(&file, &link_to_file).unwrap();

    // One thread for blocking work: if one attempt kept it, all that follow would wait forever.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let read = |path: &std::path::Path| {
        let client = ClientAuthentication::client_secret_post("c", Credential::file(path));
        let endpoint = Recorder::good().endpoint(client);
        let sending = endpoint.oneshot(TokenRequest::client_credentials());
        let limit = std::time::Duration::from_secs(60);
        runtime.block_on(async { tokio::time::timeout(limit, sending).await.unwrap() })
    };
    let device = std::path::Path::new("/dev/zero");
    for path in [&pipe, &link_to_pipe, &socket, &directory, device] {
        for _ in 0..2 {
            let error = read(path).unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Credential);
            let named = "it is not a regular file";
            assert!(error.to_string().contains(named), "{error}");
        }
    }
    read(&file).unwrap();
    read(&link_to_file).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Environment variables cannot be changed safely at run time, so this test runs itself in a new process for each case.
#[cfg(unix)]
#[tokio::test]
async fn errors_about_an_environment_variable_name_it_without_its_value() {
    const NAME: &str = "errors_about_an_environment_variable_name_it_without_its_value";
    let Ok(expected) = std::env::var("EXPECTED") else {
        for (value, expected) in [
            (Some(b"hunter2" as &[u8]), "hunter2"),
            (Some(b" hunter2\n"), "hunter2"),
            (Some(b"hunter2\r\n\r\n"), "hunter2"),
            (Some(b"\xef\xbb\xbfhunter2 and 3"), "hunter2 and 3"),
            (Some(b"hunter2\xff"), "is not UTF-8"),
            (Some(b""), "is empty"),
            (Some(b" \r\n"), "is empty"),
            (None, "is not set"),
        ] {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", NAME]).env("EXPECTED", expected);
            match value.map(std::os::unix::ffi::OsStrExt::from_bytes) {
                Some::<&std::ffi::OsStr>(value) => command.env("SECRET", value),
                None => command.env_remove("SECRET"),
            };
            let output = command.output().unwrap();
            let shown = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{value:?}: {shown}");
            assert!(shown.contains("1 passed"), "{shown}");
        }
        return;
    };

    let recorder = Recorder::good();
    let result = recorder
        .endpoint(ClientAuthentication::client_secret_post(
            "c",
            Credential::env("SECRET"),
        ))
        .oneshot(TokenRequest::client_credentials())
        .await;
    match result {
        Ok(_) => {
            let sent = form(recorder.take_one().body());
            assert_eq!(sent.last().unwrap().1, expected);
        }
        Err(error) => {
            assert_eq!(error.kind(), TokenErrorKind::Credential);
            let message = format!("the environment variable `SECRET` {expected}");
            assert!(error.to_string().contains(&message), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }
}

#[tokio::test]
async fn a_failing_provider_is_a_credential_error_and_nothing_is_sent() {
    let recorder = Recorder::good();
    let secret =
        Credential::from_fn(|| async { Err::<String, BoxError>("vault is sealed".into()) });
    let error = recorder
        .endpoint(ClientAuthentication::client_secret_post("c", secret))
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Credential);
    assert!(error.is_transient());
    assert!(!error.may_have_been_processed());
    let source = std::error::Error::source(&error).unwrap();
    let source = source.source().unwrap();
    assert_eq!(source.to_string(), "vault is sealed");
    assert_eq!(recorder.calls(), 0);
}

#[tokio::test]
async fn context_reaches_the_http_service_together_with_the_marker() {
    #[derive(Clone, Debug, PartialEq)]
    struct Deadline(u64);
    let provided = Credential::from_fn(|| async { Ok::<_, Infallible>("a") });
    for request in [
        TokenRequest::client_credentials(),
        TokenRequest::jwt_bearer(provided),
    ] {
        let sent = send(public(), request.context(Deadline(30))).await;
        assert_eq!(sent.extensions().get(), Some(&Deadline(30)));
        assert_eq!(sent.extensions().get(), Some(&NoAccessToken));
    }
}

#[tokio::test]
async fn an_empty_password_is_sent() {
    let sent = pairs(TokenRequest::password("u", "")).await;
    assert_eq!(sent[1..], owned(&[("username", "u"), ("password", "")]));
}

/// Asserts that a request is refused before any provider is called, and that the error contains `name`.
async fn assert_refused(client: ClientAuthentication, request: TokenRequest, name: &str) {
    assert_not_sent(client.clone(), request.clone(), name).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let provider = Credential::from_fn(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Err::<String, BoxError>("vault is sealed".into()) }
    });
    let request = request.parameter("from_provider", provider);
    assert_not_sent(client, request, name).await;
    assert_eq!(calls.load(Ordering::SeqCst), 0, "{name}");
}

/// Asserts that a request is refused before it is sent, and that the error contains `name`.
async fn assert_not_sent(client: ClientAuthentication, request: TokenRequest, name: &str) {
    let recorder = Recorder::good();
    let case = format!("{name}: {request:?} {client:?}");
    let error = recorder
        .endpoint(client)
        .oneshot(request)
        .await
        .expect_err(&case);
    assert_eq!(recorder.calls(), 0, "{case}");
    assert_eq!(error.kind(), TokenErrorKind::Request, "{case}");
    assert!(!error.is_transient(), "{case}");
    assert!(!error.may_have_been_processed(), "{case}");
    assert_eq!(error.status(), None, "{case}");
    let shown = error.to_string();
    assert!(shown.contains(name), "{shown:?} does not contain {name:?}");
}

#[tokio::test]
async fn an_empty_required_value_is_refused_by_its_name() {
    type Client = ClientAuthentication;
    let base = TokenRequest::client_credentials;
    for (request, name) in [
        (TokenRequest::extension(""), "`grant_type`"),
        (TokenRequest::password("", "p"), "`username`"),
        (
            TokenRequest::authorization_code("", "https://a.example/"),
            "`code`",
        ),
        (TokenRequest::authorization_code("c", ""), "`redirect_uri`"),
        (TokenRequest::refresh_token(""), "`refresh_token`"),
        (TokenRequest::device_code(""), "`device_code`"),
        (TokenRequest::token_exchange("", "t"), "`subject_token`"),
        (
            TokenRequest::token_exchange("s", ""),
            "`subject_token_type`",
        ),
        (TokenRequest::jwt_bearer(""), "`assertion`"),
        (TokenRequest::saml2_bearer(""), "`assertion`"),
        (TokenRequest::ciba(""), "`auth_req_id`"),
        (base().resource(""), "`resource`"),
        (base().audience(""), "`audience`"),
        (base().code_verifier(""), "`code_verifier`"),
        (base().actor_token("", "t"), "`actor_token`"),
        (base().actor_token("a", ""), "`actor_token_type`"),
        (base().requested_token_type(""), "`requested_token_type`"),
        (base().parameter("", "x"), "the name of a parameter"),
        (base().parameter("code", ""), "`code`"),
    ] {
        assert_refused(public(), request.clone(), name).await;
    }
    let empty = || Credential::from_fn(|| async { Ok::<_, Infallible>("") });
    for (client, name) in [
        (Client::none(""), "`client_id`"),
        (Client::tls_client_auth(""), "`client_id`"),
        (Client::client_secret_basic("", "s"), "`client_id`"),
        (Client::client_secret_basic("c", ""), "`client_secret`"),
        (Client::client_secret_basic_raw("", "s"), "`client_id`"),
        (Client::client_secret_basic_raw("c", ""), "`client_secret`"),
        (Client::client_secret_post("", "s"), "`client_id`"),
        (Client::client_secret_post("c", ""), "`client_secret`"),
        (Client::client_assertion("", "a"), "`client_id`"),
        (Client::client_assertion("c", ""), "`client_assertion`"),
        (
            Client::saml2_client_assertion("c", ""),
            "`client_assertion`",
        ),
    ] {
        assert_refused(client, base(), name).await;
    }
    for (client, name) in [
        (Client::client_secret_basic("c", empty()), "`client_secret`"),
        (Client::client_assertion("c", empty()), "`client_assertion`"),
    ] {
        assert_not_sent(client, base(), name).await;
    }
    assert_not_sent(
        public(),
        TokenRequest::refresh_token(empty()),
        "`refresh_token`",
    )
    .await;
}

#[tokio::test]
async fn a_parameter_set_twice_is_refused_by_its_name() {
    let base = TokenRequest::client_credentials;
    for (request, name) in [
        (base().parameter("grant_type", "x"), "`grant_type`"),
        (base().repeated_parameter("grant_type", "x"), "`grant_type`"),
        (base().scope("a").parameter("scope", "b"), "`scope`"),
        (
            base().parameter("scope", Credential::env("S")).scope("a"),
            "`scope`",
        ),
        (
            base()
                .repeated_parameter("scope", "a")
                .repeated_parameter("scope", "b"),
            "`scope`",
        ),
        (base().parameter("x", "1").parameter("x", "2"), "`x`"),
        (
            base()
                .parameter("x", "1")
                .parameter("x", "2")
                .parameter("x", "2"),
            "`x`",
        ),
        (
            base()
                .parameter("x", "1")
                .parameter("x", Credential::env("X")),
            "`x`",
        ),
        // Only the caller of a repeatable setter can say whether the second one is a mistake.
        (
            base().parameter("x", "1").repeated_parameter("x", "1"),
            "`x`",
        ),
        (
            base().repeated_parameter("x", "1").parameter("x", "1"),
            "`x`",
        ),
        (
            base().parameter("x", "1").repeated_parameter("x", "2"),
            "`x`",
        ),
        (
            base().repeated_parameter("x", "1").parameter("x", "2"),
            "`x`",
        ),
        (
            base()
                .resource("https://a.example/")
                .parameter("resource", "https://b.example/"),
            "`resource`",
        ),
        (
            TokenRequest::refresh_token("r").parameter("refresh_token", "s"),
            "`refresh_token`",
        ),
        (
            TokenRequest::authorization_code("c", "https://a.example/")
                .code_verifier(VERIFIER)
                .code_verifier(VERIFIER.to_uppercase()),
            "`code_verifier`",
        ),
        (base().repeated_parameter("client_id", "c"), "`client_id`"),
        (base().parameter("client_id", "other"), "`client_id`"),
    ] {
        assert_refused(public(), request, name).await;
    }
}

#[tokio::test]
async fn a_parameter_set_twice_with_the_same_value_is_sent_once() {
    let base = TokenRequest::client_credentials;
    let provided = Credential::from_fn(|| async { Ok::<_, Infallible>("p") });
    for (request, once, expected) in [
        (
            base()
                .parameter("x", "1")
                .parameter("y", "2")
                .parameter("x", "1"),
            base().parameter("x", "1").parameter("y", "2"),
            &[("x", "1"), ("y", "2")] as Pairs,
        ),
        (
            base().parameter("grant_type", "client_credentials"),
            base(),
            &[],
        ),
        (
            base().scope("a b").parameter("scope", "b a"),
            base().scope("a b"),
            &[("scope", "a b")],
        ),
        (
            base()
                .code_verifier(VERIFIER)
                .parameter("code_verifier", VERIFIER),
            base().code_verifier(VERIFIER),
            &[("code_verifier", VERIFIER)],
        ),
        (
            base().requested_token_type("t").requested_token_type("t"),
            base().requested_token_type("t"),
            &[("requested_token_type", "t")],
        ),
        (
            base()
                .parameter("x", provided.clone())
                .parameter("x", provided.clone()),
            base().parameter("x", provided.clone()),
            &[("x", "p")],
        ),
        (
            base().parameter(ODD, ODD).parameter(ODD.to_owned(), ODD),
            base().parameter(ODD, ODD),
            &[(ODD, ODD)],
        ),
    ] {
        assert_eq!(request, once);
        assert_eq!(pairs(request).await[1..], owned(expected));
    }
    for request in [
        base().resource("urn:a").resource("urn:a"),
        base().audience("a").audience("a"),
        base()
            .repeated_parameter("x", "1")
            .repeated_parameter("x", "1"),
    ] {
        assert_eq!(pairs(request).await.len(), 3, "those can be repeated");
    }
    let request = TokenRequest::refresh_token("r").parameter("refresh_token", "r");
    assert_eq!(request, TokenRequest::refresh_token("r"));
    // The client sends it already.
    let sent = pairs(base().parameter("client_id", "c")).await;
    assert_eq!(sent.len(), 1);
    let basic = ClientAuthentication::client_secret_basic("c", "s");
    let sent = send(basic, base().parameter("client_id", "c")).await;
    assert_eq!(form(sent.body()).len(), 2);
}

#[tokio::test]
async fn many_parameters_are_compared_too() {
    let request = |times: usize| {
        (0..times * 100).fold(TokenRequest::client_credentials(), |request, number| {
            request.parameter(format!("p{}", number % 100), format!("{}", number % 100))
        })
    };
    assert_eq!(request(3), request(1));
    assert_eq!(pairs(request(3)).await.len(), 101);
    // A clone is changed for itself.
    let (one, clone) = (request(1), request(1).clone());
    let changed = clone.parameter("p200", "x").parameter("p200", "x");
    assert_eq!(pairs(changed).await.len(), 102);
    assert_eq!(pairs(one.parameter("p200", "y")).await.len(), 102);
    let wrong = request(1).parameter("p99", "other");
    assert_refused(public(), wrong, "`p99` is set twice").await;
}

/// RFC 6749 section 3.2: "Parameters sent without a value MUST be treated as if they were omitted from the request."
#[tokio::test]
async fn an_empty_optional_parameter_is_not_sent() {
    let base = TokenRequest::client_credentials;
    let empty = || Credential::from_fn(|| async { Ok::<_, Infallible>("") });
    for name in [
        "audience",
        "resource",
        "tenant",
        "client_assertion_hint",
        "code_verifier",
        "redirect_uri",
        "requested_token_type",
        "actor_token",
        "actor_token_type",
        "scope",
        ODD,
    ] {
        for request in [
            base().parameter(name, ""),
            base().repeated_parameter(name, ""),
            base()
                .repeated_parameter(name, "")
                .repeated_parameter(name, ""),
        ] {
            assert_eq!(request, base(), "{name}");
            assert_eq!(pairs(request).await.len(), 1, "{name}");
        }
        let request = base()
            .parameter("x", "1")
            .parameter(name, empty())
            .parameter("y", "2");
        assert_eq!(
            pairs(request).await[1..],
            owned(&[("x", "1"), ("y", "2")]),
            "{name}"
        );
        let request = base().parameter("x", "").parameter("x", "1");
        assert_eq!(pairs(request).await[1..], owned(&[("x", "1")]));
    }
    // White space is a value.
    let sent = pairs(base().parameter("x", " ")).await;
    assert_eq!(sent[1..], owned(&[("x", " ")]));
    // A user may have no password, and the grant requires the parameter (RFC 6749 section 4.3.2).
    let sent = pairs(TokenRequest::password("u", "")).await;
    assert_eq!(sent[2], owned(&[("password", "")])[0]);
    for name in [
        "code",
        "username",
        "refresh_token",
        "device_code",
        "auth_req_id",
        "assertion",
        "subject_token",
        "subject_token_type",
        "client_secret",
        "client_assertion",
    ] {
        let anonymous = ClientAuthentication::anonymous();
        let named = format!("`{name}`");
        let request = TokenRequest::extension("g").parameter(name, "");
        assert_refused(anonymous.clone(), request, &named).await;
        let request = TokenRequest::extension("g").parameter(name, empty());
        assert_not_sent(anonymous, request, &named).await;
    }
}

#[tokio::test]
async fn a_code_verifier_of_any_form_can_be_sent_as_a_parameter() {
    let base = TokenRequest::client_credentials;
    let (short, long) = ("a".repeat(42), "a".repeat(300));
    for verifier in ["v", "a b", "é/+=", &*short, &*long] {
        let request = base().parameter("code_verifier", verifier);
        assert_eq!(pairs(request.clone()).await[1].1, verifier);
        assert_ne!(
            request,
            base().code_verifier(verifier),
            "that one is refused"
        );
        let provided = verifier.to_owned();
        let provided = Credential::from_fn(move || {
            let provided = provided.clone();
            async move { Ok::<_, Infallible>(provided) }
        });
        let request = base().parameter("code_verifier", provided.clone());
        assert_eq!(pairs(request.clone()).await[1].1, verifier);
        let checked = base().code_verifier(provided.clone());
        assert_not_sent(public(), checked.clone(), "`code_verifier`").await;
        // Setting it twice does not lift the check.
        let twice = [
            request.code_verifier(provided.clone()),
            checked.parameter("code_verifier", provided),
        ];
        for request in twice {
            assert_not_sent(public(), request, "`code_verifier`").await;
        }
        let twice = base()
            .parameter("code_verifier", verifier)
            .code_verifier(verifier);
        assert_refused(public(), twice, "use `.parameter(\"code_verifier\", ..)`").await;
    }
    assert_eq!(
        base().parameter("code_verifier", VERIFIER),
        base().code_verifier(VERIFIER)
    );
}

#[tokio::test]
async fn a_second_client_authentication_is_refused() {
    let base = TokenRequest::client_credentials;
    for (client, ..) in clients().into_iter().skip(1) {
        for name in ["client_secret", "client_assertion"] {
            let named = format!("`{name}`");
            assert_refused(client.clone(), base().parameter(name, "x"), &named).await;
            assert_refused(client.clone(), base().repeated_parameter(name, "x"), &named).await;
        }
        let request = base().header("Authorization", "Basic Yzpz");
        assert_refused(client, request, "`authorization`").await;
    }
}

#[tokio::test]
async fn a_header_that_the_crate_sets_is_refused() {
    for name in [
        "content-type",
        "content-length",
        "transfer-encoding",
        "host",
    ] {
        let request = TokenRequest::client_credentials().header(name, "x");
        assert_refused(public(), request, &format!("`{name}`")).await;
    }
    let request = TokenRequest::client_credentials().header("bad name", "x");
    assert_refused(public(), request, "name of a header").await;
    let request = TokenRequest::client_credentials().header("x-a", "a\r\nx-b: c");
    assert_refused(public(), request, "`x-a`").await;
}

#[tokio::test]
async fn a_value_with_invalid_syntax_is_refused() {
    let base = TokenRequest::client_credentials;
    for scope in ["caf\u{e9}", "a\"b", "a\\b", "a\tb", "a\nb"] {
        assert_refused(public(), base().scope(scope), "scope").await;
        assert_refused(public(), base().parameter("scope", scope), "scope").await;
        assert_refused(public(), base().scope("x").scope(["y", scope]), "scope").await;
    }
    let (short, long) = ("a".repeat(42), "a".repeat(129));
    let spaced = format!("{} {}", "a".repeat(30), "a".repeat(30));
    for verifier in [&*short, &*long, &*spaced] {
        let request = base().code_verifier(verifier);
        assert_refused(public(), request, "`code_verifier`").await;
    }
    for length in [43, 128] {
        let verifier = "~".repeat(length);
        let sent = pairs(base().code_verifier(verifier.clone())).await;
        assert_eq!(sent[1].1, verifier);
    }
    let client = ClientAuthentication::client_secret_basic_raw("a:b", "s");
    assert_refused(client, base(), "colon").await;
}

#[tokio::test]
async fn a_uri_that_would_expose_the_secret_is_refused() {
    for (uri, fault) in [
        ("/token", "not absolute"),
        ("as.example:443", "not absolute"),
        ("*", "not absolute"),
        ("ftp://as.example/token", "neither https nor http"),
        ("https://u:p@as.example/token", "user name"),
        ("https://u@as.example/token", "user name"),
        ("http://u@localhost/token", "user name"),
        ("http://as.example/token", "plain http"),
        ("http://localhost.example/token", "plain http"),
        ("http://10.0.0.1/token", "plain http"),
    ] {
        let request = TokenRequest::client_credentials().token_endpoint(uri);
        assert_refused(public(), request, fault).await;
    }
    for (uri, allow_http) in [
        ("http://localhost:8080/token", false),
        ("http://127.0.0.1:8080/token", false),
        ("http://[::1]:8080/token", false),
        ("HTTPS://as.example/token", false),
        ("http://as.example/token", true),
    ] {
        let recorder = Recorder::good();
        let mut endpoint = TokenEndpoint::new(recorder.clone(), uri, public());
        if allow_http {
            endpoint = endpoint.danger_allow_http();
        }
        let request = TokenRequest::client_credentials();
        endpoint.oneshot(request).await.expect(uri);
        assert_eq!(*recorder.take_one().uri(), Uri::from_static(uri));
    }
}

#[tokio::test]
async fn a_text_that_is_not_a_uri_is_reported_by_the_first_request() {
    for (uri, fault) in [
        ("", "the URI of the token endpoint is empty"),
        (
            "https://as.example/SECRET\n",
            "the URI of the token endpoint begins or ends with white space",
        ),
        (
            "as.example/SECRET",
            "the URI of the token endpoint is not valid",
        ),
        (
            "https://u:SEC^RET@as.example/?SECRET",
            "the URI of the token endpoint is not valid",
        ),
    ] {
        let request = TokenRequest::client_credentials().token_endpoint(uri);
        assert!(!format!("{request:?}").contains("SEC"));
        assert_refused(public(), request, fault).await;

        let recorder = Recorder::good();
        let endpoint = TokenEndpoint::new(recorder.clone(), uri, public());
        assert_eq!(endpoint.uri(), None);
        assert!(!format!("{endpoint:?}").contains("SEC"));
        let request = TokenRequest::client_credentials();
        let error = endpoint.clone().oneshot(request.clone()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request);
        let message = error.to_string();
        assert!(
            message.contains(fault) && !message.contains("SEC"),
            "{message}"
        );
        assert_eq!(recorder.calls(), 0);

        // A request with a URI of its own does not need it.
        let named = request.token_endpoint(support::URI);
        endpoint.oneshot(named).await.unwrap();
    }
}

#[tokio::test]
async fn provided_values_are_checked_as_strictly_as_fixed_ones() {
    let provided =
        |text: &'static str| Credential::from_fn(move || async move { Ok::<_, Infallible>(text) });
    let base = TokenRequest::client_credentials;
    let request = base().parameter("scope", provided("é"));
    assert_not_sent(public(), request, "scope").await;
    let request = base().code_verifier(provided("short"));
    assert_not_sent(public(), request, "`code_verifier`").await;
    let request = TokenRequest::refresh_token(provided("r")).parameter("refresh_token", "r");
    assert_refused(public(), request, "`refresh_token`").await;
}

#[tokio::test]
async fn a_refused_request_releases_its_reservation() {
    let recorder = Recorder::good();
    let limited = ConcurrencyLimit::new(recorder.clone(), 1);
    let endpoint = TokenEndpoint::new(limited, support::URI, public());
    // A wrong request, and a client that cannot authenticate.
    let empty_secret = ClientAuthentication::client_secret_basic("c", "");
    for request in [
        TokenRequest::extension(""),
        TokenRequest::client_credentials().client_authentication(empty_secret),
    ] {
        let mut first = endpoint.clone();
        let mut second = task::spawn(endpoint.clone());
        first.ready().await.unwrap();
        assert_pending!(second.enter(|cx, mut second| second.poll_ready(cx)));
        let refused = first.call(request);
        assert!(second.is_woken());
        assert_ready!(second.enter(|cx, mut second| second.poll_ready(cx))).unwrap();
        refused.await.unwrap_err();
        assert_eq!(recorder.calls(), 0);
    }
}

#[tokio::test]
async fn no_reservation_is_held_while_waiting_for_a_provider() {
    let limited = ConcurrencyLimit::new(Recorder::good(), 1);
    let mut first = TokenEndpoint::new(limited, support::URI, public());
    let mut second = task::spawn(first.clone());

    first.ready().await.unwrap();
    assert_pending!(second.enter(|cx, mut second| second.poll_ready(cx)));
    let never = Credential::from_fn(pending::<Result<String, Infallible>>);
    let mut waiting = task::spawn(first.call(TokenRequest::jwt_bearer(never)));
    assert_pending!(waiting.poll());
    assert_ready!(second.enter(|cx, mut second| second.poll_ready(cx))).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_calls_through_the_same_stack_does_not_deadlock() {
    let recorder = Recorder::good();
    let limited = ConcurrencyLimit::new(recorder.clone(), 1);
    let endpoint = TokenEndpoint::new(limited, support::URI, public());
    let provider = endpoint.clone();
    let subject = Credential::from_fn(move || {
        let provider = provider.clone();
        async move {
            let response = provider.oneshot(TokenRequest::client_credentials()).await?;
            Ok::<_, BoxError>(response.access_token().expose_secret().to_owned())
        }
    });
    let exchange = endpoint.oneshot(TokenRequest::token_exchange(subject, "t"));
    // The paused clock advances only if no task can make progress, so only a deadlock reaches the timeout.
    tokio::time::timeout(Duration::from_secs(60), exchange)
        .await
        .expect("deadlock")
        .unwrap();
    let grants: Vec<_> = recorder
        .take()
        .iter()
        .map(|sent| form(sent.body())[0].1.clone())
        .collect();
    assert_eq!(
        grants,
        [
            "client_credentials",
            "urn:ietf:params:oauth:grant-type:token-exchange"
        ]
    );
}

#[tokio::test]
async fn a_request_waits_if_the_service_is_not_ready_after_the_provider() {
    let limited = ConcurrencyLimit::new(Recorder::good(), 1);
    let endpoint = TokenEndpoint::new(limited, support::URI, public());
    let mut holder = task::spawn(endpoint.clone());
    let mut waiter = endpoint.clone();
    waiter.ready().await.unwrap();
    let provided = Credential::from_fn(|| async { Ok::<_, Infallible>("a") });
    let mut waiting = task::spawn(waiter.call(TokenRequest::jwt_bearer(provided)));
    assert_ready!(holder.enter(|cx, mut holder| holder.poll_ready(cx))).unwrap();
    assert_pending!(waiting.poll());
    drop(holder);
    assert!(waiting.is_woken());
    waiting.await.unwrap();
}
