//! The states of a request that cannot be sent at once: it needs a token, then perhaps a proof, then a ready service.
//!
//! ```text
//!  there is no usable token,          there is a usable token,
//!  or a request is resent             but its signer needs time
//!            │                                  │
//!            ▼                                  ▼
//!        ┌───────┐      token needs a proof ┌───────┐
//!    ┌──▶│ Token │─────────────────────────▶│ Proof │
//!    │   └───────┘                          └───────┘
//!    │       │ token needs no proof             │ proof is made
//!    │       │            ┌─────────┐           │
//!    │       └───────────▶│ Service │◀──────────┘
//!    │                    └─────────┘
//!    │                      │     │  service is ready, and `recheck` says …
//!    └────── StartOver ─────┘     └─ Send or Renew ──▶ Nothing: the request is sent
//! ```
//!
//! Every error ends in `Nothing`, too, as does a token that was already refused.

use std::{future::Future, pin::Pin};

use super::{auth_headers::AuthHeaders, proof::ProofFuture};
use crate::{
    error::TokenError,
    token_cache::{Authorization, TokenSource},
};

/// What a request waits for.
pub(super) enum Needs {
    Token(TokenFuture),
    Proof {
        proof: ProofFuture,
        authorization: Authorization,
        /// Whether the signer could not answer at once.
        is_remote: bool,
        token_was_usable: bool,
    },
    Service {
        headers: AuthHeaders,
        /// Whether the token was usable at some time while the request waited for its proof or its service.
        token_was_usable: bool,
    },
    Nothing,
}

pub(super) type TokenFuture =
    Pin<Box<dyn Future<Output = Result<Authorization, TokenError>> + Send>>;

impl Needs {
    pub(super) fn token_of(source: &TokenSource) -> Self {
        Self::Token(Box::pin(source.clone().wait_for_authorization()))
    }

    /// There is a token, and its signer was asked but needs time.
    pub(super) fn remote_proof(proof: ProofFuture, authorization: Authorization) -> Self {
        Self::Proof {
            proof,
            authorization,
            is_remote: true,
            token_was_usable: true,
        }
    }

    /// The token has come. `proof` is `None` if it needs none.
    pub(super) fn after_token(authorization: Authorization, proof: Option<ProofFuture>) -> Self {
        let token_was_usable = false;
        match proof {
            Some(proof) => Self::Proof {
                proof,
                authorization,
                is_remote: false,
                token_was_usable,
            },
            None => Self::Service {
                headers: AuthHeaders {
                    authorization,
                    proof: None,
                    is_signed_remotely: false,
                },
                token_was_usable,
            },
        }
    }

    /// The request has to wait although its token has come.
    pub(super) fn note_wait(&mut self, source: &TokenSource) {
        match self {
            Self::Proof {
                is_remote,
                token_was_usable,
                ..
            } => {
                *is_remote = true;
                *token_was_usable |= source.usable_authorization().is_some();
            }
            Self::Service {
                token_was_usable, ..
            } => *token_was_usable |= source.usable_authorization().is_some(),
            Self::Token(_) | Self::Nothing => {}
        }
    }
}
