//! Settings of the client for servers that want something different: the type of an assertion, no client id, an empty or short secret.

mod support;

use bytes::Bytes;
use http::Request;
use tower::ServiceExt;
use tower_oauth2_client::{
    BoxError, ClientAuthentication, Credential, TokenEndpoint, TokenErrorKind, TokenRequest,
    jwt::{SigningAlgorithm, SigningKey},
};

use self::support::{GOOD, Recorder, URI, answer, basic, form, sent_by};

const SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const SAML2: &str = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer";

async fn refused(client: ClientAuthentication) -> String {
    let recorder = Recorder::good();
    let endpoint = recorder.endpoint(client);
    let error = endpoint
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Request);
    assert_eq!(recorder.calls(), 0);
    error.to_string()
}

fn parameter(sent: &Request<Bytes>, name: &str) -> Option<String> {
    let mut pairs = form(sent.body()).into_iter();
    pairs.find(|(n, _)| n == name).map(|(_, value)| value)
}

fn private_key() -> ClientAuthentication {
    let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
    ClientAuthentication::private_key_jwt("c", key)
}

fn secret_jwt(secret: impl Into<Credential>) -> ClientAuthentication {
    ClientAuthentication::client_secret_jwt("c", secret, SigningAlgorithm::HS256)
}

/// A secret from a provider, which is checked only when it has been read.
fn provided(secret: &'static str) -> Credential {
    Credential::from_fn(move || async move { Ok::<_, BoxError>(secret) })
}

#[tokio::test]
async fn the_type_of_an_assertion_can_be_chosen() {
    let assertion = || ClientAuthentication::client_assertion("c", "e30.e30.");
    let saml2 = || ClientAuthentication::saml2_client_assertion("c", "PHNhbWw");
    for (client, expected) in [
        (assertion(), JWT_BEARER),
        (saml2(), SAML2),
        (private_key(), JWT_BEARER),
        (assertion().client_assertion_type(SPIFFE), SPIFFE),
        (
            saml2().client_assertion_type("urn:x y&z".to_owned()),
            "urn:x y&z",
        ),
        (private_key().client_assertion_type(SPIFFE), SPIFFE),
        (
            secret_jwt("s".repeat(32)).client_assertion_type(SPIFFE),
            SPIFFE,
        ),
    ] {
        for omits in [false, true] {
            let client = match omits {
                true => client.clone().without_client_id(),
                false => client.clone(),
            };
            let sent = sent_by(client).await;
            assert_eq!(parameter(&sent, "client_assertion_type").unwrap(), expected);
            assert!(parameter(&sent, "client_assertion").is_some());
            let client_id = parameter(&sent, "client_id");
            assert_eq!(client_id.as_deref(), (!omits).then_some("c"));
            assert!(!sent.headers().contains_key("authorization"));
        }
    }
}

#[tokio::test]
async fn a_client_that_its_assertion_names_needs_no_id() {
    let client = || ClientAuthentication::client_assertion("", provided("e30.e30."));
    let sent = sent_by(client().without_client_id()).await;
    assert_eq!(parameter(&sent, "client_id"), None);
    assert!(refused(client()).await.contains("`client_id` is empty"));
    // The caller may then send it in the request.
    let recorder = Recorder::good();
    let request = TokenRequest::client_credentials().parameter("client_id", "mine");
    recorder
        .endpoint(client().without_client_id())
        .oneshot(request)
        .await
        .unwrap();
    assert_eq!(
        parameter(&recorder.take_one(), "client_id").unwrap(),
        "mine"
    );
    // This crate cannot sign an assertion without a subject.
    let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
    let client = ClientAuthentication::private_key_jwt("", key).without_client_id();
    assert!(refused(client).await.contains("`client_id` is empty"));
}

/// The metadata cannot list a method that is not registered.
#[tokio::test]
async fn an_assertion_of_another_type_is_sent_whatever_methods_the_metadata_list() {
    let metadata = format!(
        r#"{{"issuer":"https://as.example","token_endpoint":"{URI}","token_endpoint_auth_methods_supported":["spiffe_jwt"]}}"#
    );
    let assertion = || ClientAuthentication::client_assertion("c", "e30.e30.");
    for (client, is_sent) in [
        (assertion(), false),
        (private_key(), false),
        (assertion().client_assertion_type(SPIFFE), true),
        (private_key().client_assertion_type(SPIFFE), true),
    ] {
        let metadata = metadata.clone();
        let recorder = Recorder::new(move |number| match number {
            0 => answer(200, metadata.clone()),
            _ => answer(200, GOOD),
        });
        let endpoint = TokenEndpoint::discover(recorder.clone(), "https://as.example", client);
        let result = endpoint.oneshot(TokenRequest::client_credentials()).await;
        assert_eq!(result.is_ok(), is_sent, "{result:?}");
        assert_eq!(recorder.calls(), if is_sent { 2 } else { 1 });
    }
}

#[tokio::test]
async fn an_empty_secret_is_sent_only_if_it_is_stated() {
    for secret in [Credential::fixed(""), provided("")] {
        let basic_client = || ClientAuthentication::client_secret_basic("c d", secret.clone());
        let raw = || ClientAuthentication::client_secret_basic_raw("c d", secret.clone());
        let post = || ClientAuthentication::client_secret_post("c d", secret.clone());
        for client in [basic_client(), raw(), post()] {
            let error = refused(client).await;
            for part in [
                "`client_secret` is empty",
                "allow_empty_secret",
                "`ClientAuthentication::none`",
            ] {
                assert!(error.contains(part), "{error}");
            }
        }
        let sent = sent_by(basic_client().allow_empty_secret()).await;
        assert_eq!(basic(sent.headers()), "c+d:");
        let sent = sent_by(raw().allow_empty_secret()).await;
        assert_eq!(basic(sent.headers()), "c d:");
        let sent = sent_by(post().allow_empty_secret()).await;
        assert_eq!(parameter(&sent, "client_secret").as_deref(), Some(""));
        assert_eq!(parameter(&sent, "client_id").as_deref(), Some("c d"));
    }
    // The setting does not change other secrets.
    let client = ClientAuthentication::client_secret_basic("c", "s").allow_empty_secret();
    assert_eq!(basic(sent_by(client).await.headers()), "c:s");
}

#[tokio::test]
async fn a_short_secret_signs_only_if_it_is_stated() {
    for secret in [Credential::fixed("short"), provided("short")] {
        let error = refused(secret_jwt(secret.clone())).await;
        assert!(error.contains("danger_allow_short_secret"), "{error}");
        let sent = sent_by(secret_jwt(secret).danger_allow_short_secret()).await;
        let assertion = parameter(&sent, "client_assertion").unwrap();
        let (message, signature) = assertion.rsplit_once('.').unwrap();
        let key = jsonwebtoken::DecodingKey::from_secret(b"short");
        let algorithm = jsonwebtoken::Algorithm::HS256;
        assert!(
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, algorithm).unwrap()
        );
    }
    for secret in [Credential::fixed(""), provided("")] {
        let error = refused(secret_jwt(secret).danger_allow_short_secret()).await;
        assert!(error.contains("`client_secret` is empty"), "{error}");
    }
}

#[tokio::test]
async fn a_setting_that_does_not_fit_the_method_is_refused_by_name() {
    let methods = || {
        [
            ClientAuthentication::anonymous(),
            ClientAuthentication::none("c"),
            ClientAuthentication::client_secret_basic("c", "s"),
            ClientAuthentication::client_secret_basic_raw("c", "s"),
            ClientAuthentication::client_secret_post("c", "s"),
            ClientAuthentication::tls_client_auth("c"),
            ClientAuthentication::client_assertion("c", "e30.e30."),
            private_key(),
            secret_jwt("s".repeat(32)),
        ]
    };
    type Set = fn(ClientAuthentication) -> ClientAuthentication;
    for (name, set, fitting) in [
        (
            "client_assertion_type",
            (|it| it.client_assertion_type(SPIFFE)) as Set,
            &[6, 7, 8][..],
        ),
        (
            "without_client_id",
            ClientAuthentication::without_client_id,
            &[6, 7, 8],
        ),
        (
            "allow_empty_secret",
            ClientAuthentication::allow_empty_secret,
            &[2, 3, 4],
        ),
        (
            "danger_allow_short_secret",
            ClientAuthentication::danger_allow_short_secret,
            &[8],
        ),
    ] {
        for (index, client) in methods().into_iter().enumerate() {
            assert_ne!(set(client.clone()), client);
            match fitting.contains(&index) {
                true => drop(sent_by(set(client)).await),
                false => {
                    let error = refused(set(client)).await;
                    assert!(error.contains(&format!("`{name}` is set, but")), "{error}");
                }
            }
        }
    }
    let client = private_key().client_assertion_type("");
    assert!(
        refused(client)
            .await
            .contains("`client_assertion_type` is empty")
    );
}
