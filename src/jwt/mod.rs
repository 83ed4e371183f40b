//! Signed JWTs: signers, keys, and the claims of client assertions.
//!
//! # FAPI 2.0
//!
//! The [FAPI 2.0 security profile](https://openid.net/specs/fapi-security-profile-2_0-final.html) has these requirements for a client's
//! token requests:
//!
//! 1. The client authenticates with `private_key_jwt` or mutual TLS (§5.3.3). Use
//!    [`private_key_jwt`](crate::ClientAuthentication::private_key_jwt) or
//!    [`tls_client_auth`](crate::ClientAuthentication::tls_client_auth).
//! 2. The audience of the client assertion is the server's issuer, as a single string. That is the default for a token endpoint that was
//!    found with [`discover`](crate::TokenEndpoint::discover). For any other, set it with [`ClientAssertion::audience`].
//! 3. Access tokens are bound to a key, with DPoP or with the client's certificate. Use `TokenEndpoint::dpop` (feature `dpop`), or
//!    [`certificate_bound_tokens`](crate::TokenEndpoint::certificate_bound_tokens) and an HTTP client that presents the same certificate to
//!    the token endpoint and to the APIs.
//! 4. Keys sign with PS256, ES256 or EdDSA, and an RSA key has at least 2048 bits (§5.4.1). [`SigningKey`] rejects shorter RSA
//!    keys. The profile does not allow `RS256`, `RS384` or `RS512`.
//!
//! For an authorization server that supports the profile:
//!
//! ```no_run
//! use tower::ServiceBuilder;
//! use tower_oauth2_client::{
//!     AddAccessTokenLayer, BoxError, ClientAuthentication, DpopKey, HttpsClient, TokenCache,
//!     TokenEndpoint, TokenRequest,
//!     add_access_token::CloneBody,
//!     jwt::{SigningAlgorithm, SigningKey},
//! };
//!
//! # fn example() -> Result<(), BoxError> {
//! let pem = std::fs::read("client-key.pem")?;
//! let key = SigningKey::from_pem(pem, SigningAlgorithm::PS256)?.kid("2026-11");
//! let client = ClientAuthentication::private_key_jwt("client", key);
//!
//! let http = HttpsClient::new()?;
//! let endpoint = TokenEndpoint::discover(http.clone(), "https://as.example", client)
//!     .dpop(DpopKey::generate()?); // signs with ES256
//!
//! let tokens = TokenCache::new(endpoint);
//! let accounts = tokens.source(TokenRequest::client_credentials().scope("accounts"));
//! // `resend` sends a request again if the API demands a nonce in the proof.
//! let api = ServiceBuilder::new()
//!     .layer(
//!         AddAccessTokenLayer::new(accounts)
//!             .origin("https://api.example")?
//!             .resend(CloneBody),
//!     )
//!     .service(http);
//! # let _: tower_oauth2_client::AddAccessToken<HttpsClient, CloneBody> = api;
//! # Ok(())
//! # }
//! ```
//!
//! # What servers want
//!
//! | the server | the setting |
//! |---|---|
//! | Entra ID with certificates by subject name and issuer | [`SigningKey::certificate_chain`], which sends `x5t#S256` and `x5c` |
//! | rejects an assertion or a proof that was "issued in the future" | [`ClientAssertion::iat_before_now`], `DpopKey::iat_before_now` |
//! | requires `nbf` | [`ClientAssertion::nbf_before_now`] |
//! | requires other claims or header members | [`ClientAssertion::claim`], [`ClientAssertion::header`], `DpopKey::claim` |
//! | requires the URI of its token endpoint as `aud`, or an array | [`ClientAssertion::audience`], [`ClientAssertion::audiences`] |
//! | knows Ed25519 only as `Ed25519` | [`SigningAlgorithm::Ed25519`] |
//! | accepts SPIFFE JWT-SVIDs | [`client_assertion_type`](crate::ClientAuthentication::client_assertion_type), [`without_client_id`](crate::ClientAuthentication::without_client_id) |
//! | issues secrets that are too short for `client_secret_jwt` | [`danger_allow_short_secret`](crate::ClientAuthentication::danger_allow_short_secret) |
//!
//! If the clock of this machine is wrong, see [`ClientAssertion::follow_server_clock`].
//!
//! # FIPS 140-3
//!
//! This crate has no feature for FIPS. All of its cryptography comes from `aws-lc-rs`, for signatures and, with the feature `rustls`, for
//! TLS. A feature of `aws-lc-rs` replaces the implementation for all crates of a program. Add this to the `Cargo.toml` of the program:
//!
//! ```toml
//! [dependencies]
//! tower-oauth2-client = { version = "0.1", features = ["dpop", "rustls"] }
//! # These two are not used in the code. Cargo enables their features for every crate of the program.
//! aws-lc-rs = { version = "1.18", default-features = false, features = ["fips"] }
//! rustls = { version = "0.23", default-features = false, features = ["fips"] }
//! ```
//!
//! The build then needs CMake and Go. At the start of the program, call `aws_lc_rs::try_fips_mode()`, which fails if another
//! implementation is in use. Which algorithms and which version of the module are validated is up to its certificate.

mod client_assertion;
mod invalid_key;
mod jwk;
pub(crate) mod jws;
mod key_pair;
mod key_problem;
mod members;
mod ml_dsa;
mod pem;
mod public_key;
mod signer;
mod signing_algorithm;
mod signing_key;

pub(crate) use self::client_assertion::Recipient;
pub use self::{
    client_assertion::ClientAssertion,
    invalid_key::InvalidKey,
    public_key::PublicKey,
    signer::{SignFuture, Signer},
    signing_algorithm::{SigningAlgorithm, UnsupportedAlgorithm},
    signing_key::SigningKey,
};
#[cfg(feature = "dpop")]
pub(crate) use self::{
    client_assertion::whole_seconds,
    members::{JsonObject, Members},
};
