//! DPoP at the token endpoint and at APIs (RFC 9449): nonces, and proofs that were used before.

mod api;
mod proof;

use std::collections::HashSet;

use bytes::Bytes;
use http::{HeaderValue, Response, Uri};

use self::proof::{Expected, Refusal};
use super::{
    AuthorizationServer, Core, answer::OAuthError, endpoints, recorded::RecordedRequest,
    state::ServerState,
};
use crate::{
    base::clock,
    dpop::{DPOP_NONCE, Role},
};

/// The proofs that were used, and the nonces that proofs must contain.
#[derive(Default)]
pub(super) struct DpopState {
    used: HashSet<String>,
    nonces: Option<Nonces>,
}

/// The nonce of the token endpoint and that of the APIs. A nonce of one is not valid at the other.
struct Nonces {
    authorization_server: String,
    resource_server: String,
}

impl DpopState {
    fn nonce(&self, role: Role) -> Option<&str> {
        let nonces = self.nonces.as_ref()?;
        Some(match role {
            Role::AuthorizationServer => &nonces.authorization_server,
            Role::ResourceServer => &nonces.resource_server,
        })
    }
}

/// # DPoP
///
/// With the feature `dpop`.
#[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
impl AuthorizationServer {
    /// Sets whether each DPoP proof must contain the current nonce (RFC 9449 §8 and §9). Default is no.
    ///
    /// A proof without it is refused with `use_dpop_nonce` and the nonce. The token endpoint and the APIs of
    /// [`check_dpop`](Self::check_dpop) have different nonces.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{
    ///     ClientAuthentication, DpopKey, TokenEndpoint, TokenRequest, test_util::AuthorizationServer,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// let server = AuthorizationServer::new();
    /// let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// let endpoint = TokenEndpoint::new(server.clone(), server.token_endpoint(), client)
    ///     .dpop(DpopKey::generate()?);
    ///
    /// server.demand_dpop_nonces(true);
    /// endpoint.oneshot(TokenRequest::client_credentials()).await?;
    /// assert_eq!(server.token_requests(), 2); // the first one had no nonce
    /// # Ok(())
    /// # }
    /// ```
    pub fn demand_dpop_nonces(&self, demand: bool) {
        let mut state = self.core.lock();
        state.dpop.nonces = demand.then(|| new_nonces(&mut state));
    }

    /// Replaces the nonces, so that proofs with the previous ones are refused with `use_dpop_nonce`.
    ///
    /// It has no effect unless [nonces are demanded](Self::demand_dpop_nonces).
    pub fn rotate_dpop_nonces(&self) {
        let mut state = self.core.lock();
        if state.dpop.nonces.is_some() {
            state.dpop.nonces = Some(new_nonces(&mut state));
        }
    }
}

fn new_nonces(state: &mut ServerState) -> Nonces {
    Nonces {
        authorization_server: state.new_credential("nonce"),
        resource_server: state.new_credential("nonce"),
    }
}

/// Returns the thumbprint of the key to which the token must be bound, or `None` if the request has no proof.
pub(super) fn check_token_request(
    core: &Core,
    request: &RecordedRequest,
) -> Result<Option<String>, OAuthError> {
    let Some(proof) = proof::of(request.headers()).map_err(refused)? else {
        return Ok(None);
    };
    let sent_to = endpoints::target(request.uri(), request.headers());
    let issuer = core.config.issuer.as_ref();
    let by_issuer = issuer.map(|issuer| super::with_path(issuer, request.path()));
    let targets: Vec<Uri> = sent_to.into_iter().chain(by_issuer).collect();
    let expected = Expected {
        method: request.method(),
        targets: &targets,
        token: None,
    };
    check(core, Role::AuthorizationServer, proof, &expected)
        .map(Some)
        .map_err(refused)
}

fn refused(refusal: Refusal) -> OAuthError {
    OAuthError::new(refusal.code(), refusal.why())
}

/// Checks a proof, and that it was not used before. Returns the thumbprint of its key.
fn check(core: &Core, role: Role, proof: &str, expected: &Expected<'_>) -> Result<String, Refusal> {
    let proof = proof::check(proof, expected, clock::unix_now())?;
    let mut state = core.lock();
    if !state.dpop.used.insert(proof.jti) {
        return Err(Refusal::Invalid("the proof was used before"));
    }
    match state.dpop.nonce(role) {
        Some(nonce) if proof.nonce.as_deref() != Some(nonce) => Err(Refusal::NonceDemanded),
        _ => Ok(proof.thumbprint),
    }
}

/// Adds the current nonce to a response of the token endpoint, if nonces are demanded.
pub(super) fn offer_nonce(core: &Core, response: &mut Response<Bytes>) {
    if let Some(nonce) = nonce_header(core, Role::AuthorizationServer) {
        response.headers_mut().insert(DPOP_NONCE, nonce);
    }
}

fn nonce_header(core: &Core, role: Role) -> Option<HeaderValue> {
    HeaderValue::try_from(core.lock().dpop.nonce(role)?).ok()
}
