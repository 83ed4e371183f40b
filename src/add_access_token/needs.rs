//! The states of a request that has no token yet: it needs a token, then perhaps a proof, then a ready service.
//!
//! ```text
//!  There is no usable    There is a usable token      There is a usable token,
//!  token, or the         that needs a proof, but      and its proof can be
//!  request is resent.    its signer needs time.       made at once.
//!         │                       │                          │
//!         ▼                       │                          │
//!     ┌───────┐                   │                          │
//!  ┌─▶│ Token │                   │                          │
//!  │  └───────┘                   │                          │
//!  │   │     │ token              │                          │
//!  │   │     │ needs a proof      │                          │
//!  │   │     └──────────────┐     │                          │
//!  │   │                    ▼     ▼                          │
//!  │   │ token             ┌───────┐                         │
//!  │   │ needs no proof    │ Proof │                         │
//!  │   │                   └───────┘                         │
//!  │   │                       │ proof is made               │
//!  │   │                       ▼                             │
//!  │   │                  ┌─────────┐                        │
//!  │   └─────────────────▶│ Service │◀───────────────────────┘
//!  │                      └─────────┘
//!  │                        │     │  service is ready, and `recheck` says …
//!  └───── StartOver ────────┘     └── Send or Renew ──▶ Nothing (sent)
//! ```
//!
//! Every error, and a token that was already refused, leads to `Nothing` without sending.

use std::{future::Future, pin::Pin, sync::Arc};

use http::{Request, Uri};

use super::{
    auth_headers::AuthHeaders,
    proof::{self, ProofFuture},
};
use crate::{
    error::TokenError,
    token_cache::{Authorization, TokenHeader, TokenSource},
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
    pub(super) fn token_of(source: &TokenSource, header: Option<&Arc<TokenHeader>>) -> Self {
        let source = source.clone();
        Self::Token(Box::pin(source.wait_for_authorization(header.cloned())))
    }

    /// What a request to `target` needs first. A proof that can be made at once is made.
    pub(super) fn of<B>(
        request: &Request<B>,
        target: &Uri,
        source: &TokenSource,
        header: Option<&Arc<TokenHeader>>,
    ) -> Result<Self, TokenError> {
        let usable = source.usable_authorization(header.map(|header| &**header));
        let Some(authorization) = usable else {
            return Ok(Self::token_of(source, header));
        };
        let Some(mut proof) = proof::start(&authorization, request, target) else {
            return Ok(Self::token_of(source, header));
        };
        Ok(match proof::at_once(&mut proof) {
            Some(proof) => Self::Service {
                headers: AuthHeaders {
                    authorization,
                    proof: Some(proof?),
                    is_signed_remotely: false,
                },
                token_was_usable: false,
            },
            // A remote signer is not asked twice: the proof that was started goes on.
            None => Self::Proof {
                proof,
                authorization,
                is_remote: true,
                token_was_usable: true,
            },
        })
    }

    /// What a request needs once its token has come. `proof` is `None` if the token needs none.
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

    /// Notes that the request waits although its token has come. A token that had already expired then does not become usable.
    pub(super) fn note_wait(&mut self, source: &TokenSource) {
        match self {
            Self::Proof {
                is_remote,
                token_was_usable,
                ..
            } => {
                *is_remote = true;
                *token_was_usable |= source.usable_authorization(None).is_some();
            }
            Self::Service {
                token_was_usable, ..
            } => *token_was_usable |= source.usable_authorization(None).is_some(),
            Self::Token(_) | Self::Nothing => {}
        }
    }
}
