//! Signed JWTs: who signs, with what, and the public half of a key.
//!
//! # FAPI 2.0
//!
//! What the [security profile](https://openid.net/specs/fapi-security-profile-2_0-final.html) asks of the token requests of a client, and
//! how to have it:
//!
//! 1. The client authenticates by `private_key_jwt` or by TLS (§5.3.3):
//!    [`private_key_jwt`](crate::ClientAuthentication::private_key_jwt) or
//!    [`tls_client_auth`](crate::ClientAuthentication::tls_client_auth).
//! 2. The audience of its assertion is the issuer of the server, as one string: so it is where the token endpoint is found by
//!    [`discover`](crate::TokenEndpoint::discover); else [`ClientAssertion::audience`] sets it.
//! 3. Access tokens are bound, by DPoP or by the certificate of the client: `TokenEndpoint::dpop` (feature `dpop`), or
//!    [`certificate_bound_tokens`](crate::TokenEndpoint::certificate_bound_tokens) with an HTTP client that shows this certificate to the
//!    token endpoint and the APIs alike.
//! 4. Keys sign with PS256, ES256 or EdDSA, and RSA keys have 2048 bits or more (§5.4.1).
//!    [`SigningKey`] takes no shorter ones; `RS256` and its kin are not allowed there.
//!
//! With an authorization server that takes part:
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
//! // The resend answers an API that demands a nonce in the proof.
//! let api = ServiceBuilder::new()
//!     .layer(AddAccessTokenLayer::new(accounts).resend(CloneBody))
//!     .service(http);
//! # let _: tower_oauth2_client::AddAccessToken<HttpsClient, CloneBody> = api;
//! # Ok(())
//! # }
//! ```

mod certificate;
mod client_assertion;
mod invalid_key;
mod jwk;
pub(crate) mod jws;
mod key_pair;
mod pem;
mod public_key;
mod signer;
mod signing_key;

pub use self::{
    client_assertion::ClientAssertion,
    invalid_key::InvalidKey,
    public_key::PublicKey,
    signer::{SignFuture, Signer, SigningAlgorithm},
    signing_key::SigningKey,
};
