//! A request that must obtain something before it can be sent: the URI, credentials, signatures. Once, or twice for a nonce.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{Request, Uri, response::Parts};

use super::{
    EndpointCall,
    encode::{Obtained, Target, credentials},
    place::{LocatedEndpoint, Place},
};
use crate::{
    authorization_server::metadata::Rules,
    client_authentication::ClientAuthentication,
    dpop::{DPOP, DpopKey, Role},
    error::TokenError,
    message::Form,
    secret::{ProvidedText, ProvidedTexts, Secret},
};

/// A request whose credentials are being obtained.
pub(super) type Preparing = Pin<Box<dyn Future<Output = Result<Prepared, TokenError>> + Send>>;

/// A request whose credentials have been obtained.
pub(super) struct Prepared {
    pub(super) request: Request<Bytes>,
    pub(super) provided: ProvidedTexts,
}

/// A request that cannot be made yet.
pub(super) struct Draft<C> {
    pub(super) call: C,
    pub(super) form: Form,
    pub(super) place: Place,
    pub(super) client: ClientAuthentication,
    pub(super) rules: Rules,
    pub(super) dpop: Option<DpopKey>,
}

impl<C: EndpointCall> Draft<C> {
    /// Finds the endpoint, obtains the credentials, signs the assertion, makes the HTTP request, and adds the DPoP proof.
    async fn prepare(&self) -> Result<Prepared, TokenError> {
        let dpop_algorithm = self.dpop.as_ref().map(DpopKey::algorithm_name);
        let located = self
            .place
            .find(&C::NAMES, &self.client, dpop_algorithm, self.rules)
            .await?;
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
            let role = Role::AuthorizationServer;
            let proof = key.prove(role, request.method(), target.uri, None).await?;
            request.headers_mut().insert(DPOP, proof);
        }
        Ok(Prepared { request, provided })
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
        let audience = located.audience();
        let assertion = self.client.sign_assertion(&audience, secret).await;
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
        };
        let preparing = preparation.prepare();
        (preparation, preparing)
    }

    fn prepare(&self) -> Preparing {
        let draft = self.draft.clone();
        Box::pin(async move { draft.prepare().await })
    }

    pub(super) fn end(&mut self, prepared: Prepared) -> Request<B> {
        self.provided = prepared.provided;
        self.uri = prepared.request.uri().clone();
        prepared.request.map(self.request_body)
    }

    pub(super) fn dpop(&self) -> Option<&DpopKey> {
        self.draft.dpop.as_ref()
    }

    /// Prepares the request again, if the server demands a proof with its nonce. The first attempt may have used up a client assertion
    /// too, so everything that can be fresh is.
    ///
    /// An incomplete response does not count as a demand, because its meaning is unknown.
    pub(super) fn again<T>(&mut self, result: &Result<T, TokenError>) -> Option<Preparing> {
        let is_demanded = self.dpop().is_some()
            && !self.is_second
            && result.as_ref().is_err_and(TokenError::demands_nonce);
        if !is_demanded {
            return None;
        }
        self.is_second = true;
        Some(self.prepare())
    }

    /// The texts that providers returned for the request, for the error that the server returned.
    pub(super) fn take_provided(&mut self) -> ProvidedTexts {
        std::mem::take(&mut self.provided)
    }

    /// Notes the nonce of a response. A success can carry the next nonce as well (RFC 9449 §8.2).
    pub(super) fn note_nonce(&self, parts: &Parts) {
        if let Some(key) = self.dpop() {
            key.note_nonce(Role::AuthorizationServer, &self.uri, &parts.headers);
        }
    }
}
