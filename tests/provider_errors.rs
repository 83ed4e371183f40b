//! What is said when a provider of secrets or a signer fails: the name of what is missing, and nothing that a caller's code said.
#![cfg(all(feature = "dpop", feature = "jwt"))]

mod support;

use std::{error::Error, fmt, io};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, ClientAuthentication, Credential, DpopKey, NoAccessToken,
    NotSent, TokenCache, TokenEndpoint, TokenError, TokenErrorKind, TokenRequest,
    jwt::{PublicKey, SignFuture, Signer, SigningAlgorithm, SigningKey},
};

use self::support::{Log, Recorder, URI};

const SECRET: &str = "S3NT1NEL";

/// What a caller's provider fails with: it tells the secret whichever way it is printed.
#[derive(Debug)]
struct VaultError(#[allow(dead_code, reason = "printed by `Debug`")] &'static str);

impl fmt::Display for VaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for VaultError {}

fn vault() -> Credential {
    Credential::from_fn(|| async { Err::<String, _>(VaultError(SECRET)) })
}

/// A signer that fails as a caller's provider does.
struct Hsm(SigningKey);

impl Signer for Hsm {
    fn algorithm(&self) -> SigningAlgorithm {
        self.0.algorithm()
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.0.public_key()
    }

    fn sign<'a>(&'a self, _: &'a [u8]) -> SignFuture<'a> {
        Box::pin(async { Err(VaultError(SECRET).into()) })
    }
}

fn hsm() -> Hsm {
    Hsm(SigningKey::generate(SigningAlgorithm::ES256).unwrap())
}

/// An error of another layer that prints what it wraps and comes before it in the chain.
#[derive(Debug)]
struct Wrapped(BoxError);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the layer failed: {}", self.0)
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// An error of another layer that leaves what it wraps out of the chain, as `#[error(transparent)]` of `thiserror` does.
#[derive(Debug)]
struct Transparent(BoxError);

impl fmt::Display for Transparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Transparent {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

type Wrap = fn(BoxError) -> BoxError;

const WRAPS: [Wrap; 7] = [
    |error| error,
    |error| Wrapped(error).into(),
    |error| Transparent(error).into(),
    |error| io::Error::other(error).into(),
    |error| NotSent::new(error).into(),
    |error| Transparent(Transparent(io::Error::other(error).into()).into()).into(),
    |error| Wrapped(Transparent(Wrapped(error).into()).into()).into(),
];

fn clients() -> Vec<ClientAuthentication> {
    vec![
        ClientAuthentication::client_secret_basic("c", vault()),
        ClientAuthentication::client_secret_post("c", vault().named("vault")),
        ClientAuthentication::client_assertion(
            "c",
            Credential::from_fn(|| async { Ok::<_, BoxError>(vault()) }),
        ),
        ClientAuthentication::client_secret_jwt("c", vault(), SigningAlgorithm::HS256),
        ClientAuthentication::private_key_jwt("c", hsm()),
    ]
}

/// Every way in which an error is printed without walking its chain.
fn printed(error: &TokenError) -> String {
    #[derive(Debug)]
    #[allow(dead_code, reason = "printed by `Debug`")]
    struct Foreign(TokenError, Option<BoxError>);
    let foreign = Foreign(error.clone(), Some(error.clone().into()));
    format!("{error} {error:#} {error:?} {error:#?} {foreign:?} {foreign:#?}")
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_or_signer_said_is_printed_at_no_depth() {
    let (log, _guard) = Log::record();
    for client in clients() {
        for wrap in WRAPS {
            for outer in WRAPS {
                // The gateway to the authorization server wants a token, too.
                let gateway = TokenEndpoint::new(Recorder::good(), URI, client.clone());
                let gateway =
                    TokenCache::new(gateway.map_err(move |error: TokenError| outer(error.into())));
                let through = ServiceBuilder::new()
                    .map_request(|mut request: Request<Full<Bytes>>| {
                        request.extensions_mut().remove::<NoAccessToken>();
                        request
                    })
                    .map_err(wrap)
                    .layer(
                        AddAccessTokenLayer::new(
                            gateway.source(TokenRequest::client_credentials()),
                        )
                        .danger_any_https_origin(),
                    )
                    .service(Recorder::good());
                let own = ClientAuthentication::none("c");
                let endpoint = TokenEndpoint::new(through, URI, own);
                let tokens =
                    TokenCache::new(endpoint.map_err(move |error: TokenError| outer(error.into())));
                let source = tokens.source(TokenRequest::client_credentials());
                let error = source.token().await.unwrap_err();
                assert!(
                    format!("{error:?}").contains("from its provider"),
                    "{error:?}"
                );
                let shown = format!("{} {:?} {:?}", printed(&error), tokens.status(), tokens);
                assert!(!shown.contains(SECRET), "{shown}");
            }
        }
    }
    let events = log.text();
    assert!(events.contains("from its provider"), "{events}");
    assert!(!events.contains(SECRET), "{events}");
}

#[tokio::test(start_paused = true)]
async fn what_the_signer_of_a_proof_said_is_not_printed() {
    let (log, _guard) = Log::record();
    let endpoint = Recorder::good()
        .endpoint(ClientAuthentication::none("c"))
        .dpop(DpopKey::new(hsm()).unwrap());
    let source = TokenCache::new(endpoint).source(TokenRequest::client_credentials());
    let error = source.token().await.unwrap_err();
    let api = service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
    });
    let layer = AddAccessTokenLayer::new(source).danger_any_https_origin();
    let layered = layer.layer(api);
    let request = Request::get("https://api.example/").body(Full::default());
    let by_layer = layered.oneshot(request.unwrap()).await.unwrap_err();
    assert!(
        by_layer.to_string().contains("the DPoP proof"),
        "{by_layer}"
    );
    let shown = format!("{} {by_layer} {by_layer:?} {}", printed(&error), log.text());
    assert!(shown.contains("failed to create the DPoP proof"), "{shown}");
    assert!(!shown.contains(SECRET), "{shown}");
}

#[tokio::test]
async fn the_error_of_a_provider_is_in_the_chain_of_sources() {
    for client in clients() {
        let endpoint = Recorder::good().endpoint(client);
        let error = endpoint.oneshot(TokenRequest::client_credentials()).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Credential);
        let mut next = error.source();
        let mut found = 0;
        while let Some(error) = next {
            found += usize::from(error.is::<VaultError>());
            next = error.source();
        }
        assert_eq!(found, 1, "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_variable_or_file_is_named_in_the_error_and_in_the_event() {
    let directory = std::env::temp_dir();
    let through_fn =
        || Credential::from_fn(|| async { Ok::<_, BoxError>(Credential::env("NOPE")) });
    for (credential, expected) in [
        (
            Credential::env("NOPE"),
            "the environment variable `NOPE` is not set",
        ),
        (
            Credential::env("NOPE").named("vault"),
            "the environment variable `NOPE` is not set",
        ),
        (through_fn(), "the environment variable `NOPE` is not set"),
        (
            Credential::file("/nonexistent/token"),
            "cannot read the file `/nonexistent/token`: No such file",
        ),
        (Credential::file(&directory), "it is not a regular file"),
    ] {
        let (log, _guard) = Log::record();
        let client = ClientAuthentication::client_secret_post("c", credential.clone());
        let requests = [
            (client, TokenRequest::client_credentials()),
            (
                ClientAuthentication::none("c"),
                TokenRequest::jwt_bearer(credential.clone()),
            ),
            (
                ClientAuthentication::client_secret_jwt("c", credential, SigningAlgorithm::HS256),
                TokenRequest::client_credentials(),
            ),
        ];
        for (client, request) in requests {
            let endpoint = Recorder::good().endpoint(client);
            let error = endpoint.clone().oneshot(request.clone()).await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Credential);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(format!("{error:?}").contains(expected), "{error:?}");
            let source = TokenCache::new(endpoint).source(request);
            let error = source.token().await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let events = log.text();
        let named = events.lines().filter(|line| line.contains(expected));
        assert!(named.count() >= 3, "{events}");
    }
}

/// The error of a token that a request is made with tells what became of that token.
#[tokio::test(start_paused = true)]
async fn the_error_of_a_token_that_is_exchanged_is_named_in_the_event() {
    let (log, _guard) = Log::record();
    let nope = ClientAuthentication::client_secret_post("c", Credential::env("NOPE"));
    let subject = TokenCache::new(Recorder::good().endpoint(nope));
    let subject = subject.source(TokenRequest::client_credentials());
    let subject = Credential::from_fn(move || {
        let subject = subject.clone();
        async move { subject.token().await }
    });
    let exchange = TokenRequest::token_exchange(subject, "urn:example:type");
    let own = ClientAuthentication::none("c");
    let tokens = TokenCache::new(Recorder::good().endpoint(own));
    let error = tokens.source(exchange).token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Credential);
    let expected = "failed to get a secret, assertion or token from its provider: \
                    failed to get a secret, assertion or token from its provider: \
                    the environment variable `NOPE` is not set";
    assert!(log.text().contains(expected), "{}", log.text());
}

/// Names that would forge a line of a log, hide something, or fill it.
#[tokio::test]
async fn names_in_errors_are_one_short_line() {
    let name = format!(
        "x\r\nERROR \u{1b}[31m\u{202e}\u{e0041}{}",
        "y".repeat(10_000)
    );
    for credential in [
        Credential::env(&name),
        Credential::file(&name),
        Credential::env("X").named(&name),
    ] {
        let shown = format!("{credential:?}");
        let client = ClientAuthentication::client_secret_post("c", credential);
        let error = Recorder::good()
            .endpoint(client)
            .oneshot(TokenRequest::client_credentials())
            .await
            .unwrap_err();
        for shown in [shown, printed(&error)] {
            // `{:#?}` breaks lines of its own.
            let shown = shown.replace('\n', " ");
            assert!(shown.is_ascii(), "{shown}");
            assert!(!shown.chars().any(char::is_control), "{shown}");
            assert!(shown.len() < 5000, "{} bytes", shown.len());
        }
    }
}
