//! What an error prints: `{error}` what failed, `{error:#}` also why, on one line.
#![cfg(all(feature = "jwt", feature = "reqwest", feature = "rustls"))]

mod support;

use std::{error::Error, fmt, io};

use http::Uri;
use tower::ServiceExt;
use tower_oauth2_client::{
    BoxError, ClientAuthentication, Credential, HttpService, HttpsClient, NotSent, ReqwestService,
    RevocationRequest, TokenEndpoint, TokenError, TokenErrorKind, TokenRequest,
    jwt::{SigningAlgorithm, SigningKey},
};

use self::support::{Recorder, URI, answer, hyper_client, unreachable_uri};

const SECRET: &str = "S3NT1NEL";

fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("client", SECRET)
}

/// An error that prints what it wraps after its own text, which many do.
#[derive(Debug)]
struct Repeating(&'static str, BoxError);

impl fmt::Display for Repeating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, self.1)
    }
}

impl Error for Repeating {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.1)
    }
}

fn failed(source: impl Into<BoxError>) -> TokenError {
    TokenError::builder(TokenErrorKind::Service)
        .message("no token")
        .source(source)
        .build()
}

#[test]
fn the_alternate_form_prints_every_source_once() {
    let io = || io::Error::other("no route");
    for (error, expected) in [
        (failed(io()), "no token: no route"),
        (
            failed(NotSent::new(io())),
            "no token: the request was not sent: no route",
        ),
        (
            failed(Repeating("connect: ", io().into())),
            "no token: connect: no route",
        ),
        (failed(Repeating("", io().into())), "no token: no route"),
        (
            failed(Repeating("a: ", Repeating("b: ", io().into()).into())),
            "no token: a: b: no route",
        ),
        // The end of a word is no repetition.
        (
            failed(Repeating("no-", io().into())),
            "no token: no-no route: no route",
        ),
        (failed(failed(io())), "no token: no route"),
        (
            failed("two\nlines \u{1b}[31m"),
            r"no token: two\nlines \u{1b}[31m",
        ),
    ] {
        assert_eq!(format!("{error:#}"), expected);
        assert_eq!(error.to_string(), "no token");
    }
    let without_source = TokenError::builder(TokenErrorKind::ShutDown).build();
    assert_eq!(format!("{without_source:#}"), without_source.to_string());
}

/// The status stays behind the message of the error that has it.
#[test]
fn the_alternate_form_contains_what_the_plain_one_does() {
    let error = TokenError::builder(TokenErrorKind::UnexpectedStatus)
        .source(io::Error::other("broken pipe"))
        .build();
    assert_eq!(format!("{error:#}"), format!("{error}: broken pipe"));
    assert!(format!("{error}").ends_with("[status 500]"));
}

/// Also if the text above it is the one that this crate gives to such errors.
#[test]
fn the_alternate_form_hides_what_a_provider_said() {
    let hidden = "the provider or signer returned an error";
    for message in ["no secret", hidden] {
        let error = TokenError::builder(TokenErrorKind::Credential)
            .message(message)
            .source(Repeating("vault: ", SECRET.into()))
            .build();
        for error in [error.clone(), failed(error)] {
            let text = format!("{error:#}");
            assert!(!text.contains(SECRET), "{text}");
            assert!(text.ends_with(hidden), "{text}");
        }
    }
}

async fn unreachable(http: impl HttpService<http_body_util::Full<bytes::Bytes>>, uri: &Uri) {
    let endpoint: TokenEndpoint<_> = TokenEndpoint::new(http, uri, client());
    let request = TokenRequest::client_credentials();
    let error = endpoint.oneshot(request).await.unwrap_err();
    let text = format!("{error:#}");
    let host = uri.authority().unwrap().as_str();
    let refused = if cfg!(windows) {
        "actively refused"
    } else {
        "Connection refused"
    };
    assert_eq!(text.matches(refused).count(), 1, "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with(&error.to_string()), "{text}");
    assert!(!text.contains(SECRET), "{text}");
    assert!(text.contains(host), "{text}");
}

#[tokio::test]
async fn an_outage_names_the_host_and_the_cause() {
    let uri = unreachable_uri().await;
    unreachable(HttpsClient::new().unwrap(), &uri).await;
    let reqwest = ReqwestService::new(support::reqwest_client());
    unreachable(reqwest, &uri).await;
}

/// hyper-util's own client does not name the host.
#[tokio::test]
async fn an_outage_of_a_hyper_client_names_the_cause() {
    let endpoint = TokenEndpoint::new(hyper_client(), unreachable_uri().await, client());
    let request = TokenRequest::client_credentials();
    let error = endpoint.oneshot(request).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("Connection refused"),
        "{error:#}"
    );
}

/// Every client authentication, what a refusal of the client tells to check, and what it must not mention.
fn clients() -> Vec<(
    ClientAuthentication,
    &'static [&'static str],
    &'static [&'static str],
)> {
    let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
    let secret = "secret-".repeat(8);
    vec![
        (
            ClientAuthentication::anonymous(),
            &["check whether the server requires a client id"],
            &["secret", "key", "certificate"],
        ),
        (
            ClientAuthentication::none("c"),
            &["check the id of the client, and", "public client"],
            &["secret", "key", "certificate"],
        ),
        (
            ClientAuthentication::client_secret_basic("c", &*secret),
            &[
                "its secret",
                "`client_secret_basic`",
                "`client_secret_basic_raw`",
            ],
            &["key", "certificate"],
        ),
        (
            ClientAuthentication::client_secret_basic_raw("c", &*secret),
            &["its secret", "`client_secret_basic`"],
            &["_raw", "key", "certificate"],
        ),
        (
            ClientAuthentication::client_secret_post("c", &*secret),
            &["its secret", "`client_secret_post`"],
            &["basic", "key", "certificate"],
        ),
        (
            ClientAuthentication::tls_client_auth("c"),
            &["check the id of the client, the certificate"],
            &["secret", "key"],
        ),
        (
            ClientAuthentication::client_assertion("c", "a.b.c"),
            &["issuer", "audience", "expiry"],
            &["secret", "certificate"],
        ),
        (
            ClientAuthentication::saml2_client_assertion("c", "PHNhbWw"),
            &["issuer", "audience", "expiry"],
            &["secret", "certificate"],
        ),
        (
            ClientAuthentication::private_key_jwt("c", key),
            &["public key", "`kid`", "audience", "clock"],
            &["secret", "certificate"],
        ),
        (
            ClientAuthentication::client_secret_jwt("c", secret, SigningAlgorithm::HS256),
            &["its secret", "audience", "clock"],
            &["public key", "certificate"],
        ),
    ]
}

fn check_hint(text: &str, expected: &[&str], others: &[&str]) {
    assert_eq!(text.matches("; check ").count(), 1, "{text}");
    for word in expected {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
    for word in others {
        assert!(!text.contains(word), "`{word}` is in: {text}");
    }
}

#[tokio::test]
async fn a_refused_client_is_told_what_to_check_about_its_own_authentication() {
    for (status, body) in [
        (401, r#"{"error":"invalid_client"}"#),
        (400, r#"{"error":"invalid_client"}"#),
        (200, r#"{"error":"invalid_client"}"#),
        (401, ""),
        (401, "no"),
    ] {
        for (client, expected, others) in clients() {
            let server = Recorder::new(move |_| answer(status, body));
            let request = TokenRequest::jwt_bearer("a.b.c");
            let error = server.endpoint(client).oneshot(request).await.unwrap_err();
            check_hint(&error.to_string(), expected, others);
        }
    }
}

/// The client of the request counts, and a credential that has to be obtained first makes no difference.
#[tokio::test]
async fn the_hint_is_about_the_client_of_the_request() {
    let server = Recorder::new(|_| answer(401, r#"{"error":"invalid_client"}"#));
    let request = TokenRequest::client_credentials();
    let tls = request
        .clone()
        .client_authentication(ClientAuthentication::tls_client_auth("c"));
    let error = server.endpoint(client()).oneshot(tls).await.unwrap_err();
    check_hint(&error.to_string(), &["certificate"], &["secret"]);

    let provider = Credential::from_fn(|| async { Ok::<_, BoxError>("provided") });
    let provided = ClientAuthentication::client_secret_post("c", provider);
    let provided = request.client_authentication(provided);
    let error = server
        .endpoint(client())
        .oneshot(provided)
        .await
        .unwrap_err();
    check_hint(&error.to_string(), &["`client_secret_post`"], &["basic"]);
}

#[tokio::test]
async fn a_revocation_endpoint_gives_the_same_hint() {
    for (client, expected, others) in clients() {
        let server = Recorder::new(|_| answer(401, r#"{"error":"invalid_client"}"#));
        let endpoint: tower_oauth2_client::RevocationEndpoint<_> =
            tower_oauth2_client::RevocationEndpoint::new(server, URI, client);
        let error = endpoint
            .oneshot(RevocationRequest::new("t"))
            .await
            .unwrap_err();
        check_hint(&error.to_string(), expected, others);
    }
}

#[tokio::test]
async fn other_refusals_give_no_hint_about_the_client() {
    for (status, body) in [
        (400, r#"{"error":"invalid_grant"}"#),
        (401, r#"{"error":"invalid_scope"}"#),
        (403, ""),
        (400, ""),
    ] {
        let server = Recorder::new(move |_| answer(status, body));
        let request = TokenRequest::client_credentials();
        let error = server
            .endpoint(client())
            .oneshot(request)
            .await
            .unwrap_err();
        assert!(
            !error.to_string().contains("the id of the client"),
            "{error}"
        );
    }
}
