//! The headers that authorize one request: `Authorization`, and `DPoP` for a token that is bound to a key.

use http::{HeaderValue, Request, Uri, header::AUTHORIZATION};

use super::proof::SentProof;
use crate::{dpop::DPOP, token_cache::Authorization};

pub(super) struct AuthHeaders {
    pub(super) authorization: Authorization,
    /// `None` if the token needs no proof.
    pub(super) proof: Option<HeaderValue>,
    /// Whether the signer of the proof could not answer at once, such as a key service.
    pub(super) is_signed_remotely: bool,
}

impl AuthHeaders {
    /// Puts the headers on a request, which goes to `target` if its own URI does not say where.
    pub(super) fn put_on<B>(
        self,
        request: &mut Request<B>,
        target: Option<&Uri>,
    ) -> Option<SentProof> {
        let Authorization {
            value,
            token,
            bound,
        } = self.authorization;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, value);
        if let Some(proof) = self.proof {
            headers.insert(DPOP, proof);
        }
        token.tell(request.extensions_mut());
        bound.map(|token| SentProof::new(token, target.unwrap_or(request.uri()).clone()))
    }
}
