//! The headers that authorize one request: that of the token, and `DPoP` for a token that is bound to a key.

use http::{Request, Uri};

use super::proof::SentProof;
use crate::{
    dpop::{DPOP, Proof},
    token_cache::{Authorization, TokenHeader},
};

pub(super) struct AuthHeaders {
    pub(super) authorization: Authorization,
    /// `None` if the token needs no proof.
    pub(super) proof: Option<Proof>,
    /// Whether the signer of the proof could not answer at once, such as a key service.
    pub(super) is_signed_remotely: bool,
}

impl AuthHeaders {
    /// Puts the headers on a request, which goes to `target` if its own URI does not say where.
    pub(super) fn put_on<B>(
        self,
        request: &mut Request<B>,
        target: Option<&Uri>,
        header: Option<&TokenHeader>,
    ) -> Option<SentProof> {
        let Authorization {
            value,
            token,
            bound,
        } = self.authorization;
        let headers = request.headers_mut();
        TokenHeader::set(header, headers, value);
        let nonce = self.proof.and_then(|proof| {
            headers.insert(DPOP, proof.header);
            proof.nonce
        });
        token.tell(request.extensions_mut());
        let target = target.unwrap_or(request.uri());
        bound.map(|token| SentProof::new(token, target.clone(), nonce))
    }
}
