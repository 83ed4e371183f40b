//! A request that must obtain something before it can be sent: the URI, credentials, signatures. Once, or twice for a nonce.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{Request, Uri, response::Parts};

use super::{
    EndpointCall,
    encode::{Obtained, Target, credentials},
    place::{LocatedEndpoint, Lookup},
    sent_secrets::SentSecrets,
};
use crate::{
    authorization_server::metadata::{AlgorithmNames, Rules},
    client_authentication::ClientAuthentication,
    dpop::{DPOP, DpopKey, Role},
    error::{ErrorCode, ErrorResponse, TokenError},
    message::{AccessToken, Form},
    secret::{ProvidedText, ProvidedTexts, Secret},
};

/// A request whose credentials are being obtained.
pub(super) type Preparing = Pin<Box<dyn Future<Output = Result<Prepared, TokenError>> + Send>>;

/// A request whose credentials have been obtained.
pub(super) struct Prepared {
    pub(super) request: Request<Bytes>,
    pub(super) provided: ProvidedTexts,
    pub(super) corrections: Corrections,
}

/// By how many seconds the times in a client assertion and in a DPoP proof are corrected.
#[derive(Clone, Copy, Default)]
pub(super) struct Corrections {
    assertion: i64,
    proof: i64,
}

impl Corrections {
    /// A smaller difference can come from the time that a response takes.
    const RELEVANT: u64 = 3;

    fn differ_from(self, other: Self) -> bool {
        let assertion = self.assertion.abs_diff(other.assertion);
        assertion.max(self.proof.abs_diff(other.proof)) >= Self::RELEVANT
    }
}

/// A request that cannot be made yet.
pub(super) struct Draft<C> {
    pub(super) call: C,
    pub(super) form: Form,
    pub(super) lookup: Lookup,
    pub(super) client: ClientAuthentication,
    pub(super) rules: Rules,
    pub(super) dpop: Option<DpopKey>,
}

impl<C: EndpointCall> Draft<C> {
    /// Finds the endpoint, obtains the credentials, signs the assertion, makes the HTTP request, and adds the DPoP proof.
    async fn prepare(&self) -> Result<Prepared, TokenError> {
        let proof_algorithm = self.dpop.as_ref().map(DpopKey::algorithm_names);
        let algorithms = AlgorithmNames {
            assertion: self.client.algorithm_names(),
            proof: proof_algorithm.unwrap_or_default(),
        };
        let located = self
            .lookup
            .find(&C::NAMES, &self.client, algorithms, self.rules)
            .await?;
        located.check_issuer(&C::NAMES, self.form.issuer())?;
        // Before anything is signed, so that a correction is noticed that another response makes meanwhile.
        let corrections = self.corrections(&located.uri);
        let (mut secrets, mut provided) = (Vec::new(), ProvidedTexts::default());
        let of_client = self.form.parameters().len();
        for (index, credential) in credentials(&self.form, &self.client).enumerate() {
            let secret = credential.obtain().await.map_err(TokenError::credential)?;
            if credential.known().is_none() {
                provided.push(ProvidedText {
                    credential: credential.clone(),
                    text: secret.clone(),
                    is_client_secret: index == of_client && self.client.has_secret(),
                });
            }
            secrets.push(secret);
        }
        let client_secret = secrets.get(of_client);
        let assertion = self.sign_assertion(&located, client_secret).await?;
        let target = Target {
            uri: &located.uri,
            client: &self.client,
        };
        let obtained = Obtained {
            secrets: &secrets,
            assertion: assertion.as_ref(),
        };
        let mut request = self.call.encode(&self.form, &target, Some(&obtained))?;
        if let Some(key) = &self.dpop {
            let (algorithm, role) = (located.algorithms.proof, self.role());
            let token = self.call.access_token().and_then(AccessToken::binding);
            let token_hash = token.map(|binding| &*binding.token_hash);
            let proof = key
                .prove_as(algorithm, role, request.method(), target.uri, token_hash)
                .await?;
            request.headers_mut().insert(DPOP, proof.header);
        }
        Ok(Prepared {
            request,
            provided,
            corrections,
        })
    }

    /// An endpoint that is called with an access token is an API, even if it belongs to the authorization server.
    fn role(&self) -> Role {
        match self.call.access_token() {
            Some(_) => Role::ResourceServer,
            None => Role::AuthorizationServer,
        }
    }

    /// The present corrections for the server at this URI.
    fn corrections(&self, uri: &Uri) -> Corrections {
        let of_proof = self.dpop.as_ref().map(|key| key.seconds_ahead(uri));
        Corrections {
            assertion: self.client.seconds_ahead(uri),
            proof: of_proof.unwrap_or_default(),
        }
    }

    /// Signs the assertion of this attempt, if the client signs one. A secret that is too short for it is refused when the request
    /// is encoded.
    async fn sign_assertion(
        &self,
        located: &LocatedEndpoint,
        secret: Option<&Secret>,
    ) -> Result<Option<Secret>, TokenError> {
        if !self.client.signs() {
            return Ok(None);
        }
        let (audience, algorithm) = (located.audience(), located.algorithms.assertion);
        let assertion = self
            .client
            .sign_assertion(&located.uri, &audience, algorithm, secret)
            .await;
        assertion.map_err(TokenError::credential)
    }
}

/// Prepares a request once, or twice if the server demands a nonce.
pub(super) struct Preparation<C, S, B> {
    draft: Arc<Draft<C>>,
    pub(super) request_body: fn(Bytes) -> B,
    /// A clone that holds no permit or buffer slot. A credential provider may call the same stack and need that permit.
    pub(super) service: S,
    provided: ProvidedTexts,
    /// Where the request was sent to.
    uri: Uri,
    is_second: bool,
    /// What the request was signed with.
    corrections: Corrections,
}

impl<C: EndpointCall, S, B> Preparation<C, S, B> {
    pub(super) fn begin(
        draft: Draft<C>,
        request_body: fn(Bytes) -> B,
        service: S,
    ) -> (Self, Preparing) {
        let preparation = Self {
            draft: Arc::new(draft),
            request_body,
            service,
            provided: ProvidedTexts::default(),
            uri: Uri::default(),
            is_second: false,
            corrections: Corrections::default(),
        };
        let preparing = preparation.prepare();
        (preparation, preparing)
    }

    fn prepare(&self) -> Preparing {
        let draft = self.draft.clone();
        Box::pin(async move { draft.prepare().await })
    }

    pub(super) fn end(&mut self, prepared: Prepared) -> (Request<B>, SentSecrets) {
        self.provided = prepared.provided;
        self.corrections = prepared.corrections;
        self.uri = prepared.request.uri().clone();
        let sent = SentSecrets::of(&prepared.request);
        (prepared.request.map(self.request_body), sent)
    }

    pub(super) fn dpop(&self) -> Option<&DpopKey> {
        self.draft.dpop.as_ref()
    }

    /// Prepares the request again, if the server demands a proof with its nonce, or if it refused what was signed by a clock that turned out
    /// to be wrong. The first attempt may have used up a client assertion too, so everything that can be fresh is.
    ///
    /// An incomplete response does not count as a demand, because its meaning is unknown.
    pub(super) fn again<T>(&mut self, result: &Result<T, TokenError>) -> Option<Preparing> {
        let error = result.as_ref().err().filter(|_| !self.is_second)?;
        let demands_nonce = self.dpop().is_some() && error.demands_nonce();
        if !demands_nonce && !self.is_refused_by_clock(error) {
            return None;
        }
        self.is_second = true;
        Some(self.prepare())
    }

    /// The texts that providers returned for the request, for the error that the server returned.
    pub(super) fn take_provided(&mut self) -> ProvidedTexts {
        std::mem::take(&mut self.provided)
    }

    /// Whether the server refused the client or its proof, and the clock that both were signed by has been corrected since: by this
    /// response, or by that to another request. A server that refuses the client did not process the request.
    fn is_refused_by_clock(&self, error: &TokenError) -> bool {
        let code = error.error_response().map(ErrorResponse::code);
        let is_refused = matches!(
            code,
            Some(&(ErrorCode::INVALID_CLIENT | ErrorCode::INVALID_DPOP_PROOF))
        );
        is_refused
            && self
                .corrections
                .differ_from(self.draft.corrections(&self.uri))
    }

    /// Notes the nonce of a response, and the server's clock. A success can carry the next nonce as well (RFC 9449 §8.2).
    pub(super) fn note_headers(&self, parts: &Parts) {
        let (uri, headers) = (&self.uri, &parts.headers);
        self.draft.client.note_clock(uri, headers);
        if let Some(key) = self.dpop() {
            key.note_headers(self.draft.role(), uri, headers);
        }
    }
}
