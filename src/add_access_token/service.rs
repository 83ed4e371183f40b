//! `AddAccessToken`: the service that the layer makes.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, header::AUTHORIZATION, request};
use tower_service::Service;

use super::{
    cold::Cold,
    future::ResponseFuture,
    guard::{Guard, InsecureTransport, Verdict},
    headers,
    kept::{Kept, Reasons},
    proof::{self, Proven},
    resend::{NoResend, Resend},
};
use crate::{
    dpop::DPOP,
    error::{BoxError, TokenError},
    message::{NoAccessToken, TokenRequest},
    token_cache::{Authorization, LocalCopy, TokenName, TokenSource},
};

/// Puts an access token on each request; made by [`AddAccessTokenLayer`](crate::AddAccessTokenLayer). See the
/// [module](super) for the rules.
///
/// # Errors
///
/// Those of the inner service, in a box; a [`TokenError`] if there is no token; [`InsecureTransport`] if the token would be seen
/// on its way.
///
/// # Cancel safety
///
/// Dropping the future while it waits for a token changes nothing for others, and the request was not sent.
#[derive(Clone)]
pub struct AddAccessToken<S, R = NoResend> {
    inner: S,
    shared: Arc<Shared>,
    resend: R,
    copy: LocalCopy,
}

/// What all services of a layer share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) source: TokenSource,
    pub(super) guard: Guard,
    pub(super) token_request_for: Option<TokenRequestFor>,
}

/// Makes a token request out of a request.
pub(super) type TokenRequestFor = Arc<dyn Fn(&request::Parts) -> TokenRequest + Send + Sync>;

const FIXED: &str = "a request names a token request, but the layer's token is fixed; make the layer with a source of a `TokenCache`";

/// Which token a request is to bear.
enum Choice {
    /// That of the layer.
    Layer,
    /// The one that the function of the layer names.
    ByParts,
    /// That of a source of its own.
    Own(TokenSource),
    /// None.
    Nothing,
}

impl<S, R> AddAccessToken<S, R> {
    pub(super) fn new(inner: S, shared: Arc<Shared>, resend: R) -> Self {
        Self {
            inner,
            shared,
            resend,
            copy: LocalCopy::new(),
        }
    }

    #[inline]
    fn choose<B>(&self, request: &Request<B>) -> Result<Choice, BoxError> {
        if headers::contains(request.headers(), &AUTHORIZATION) {
            return Ok(Choice::Nothing);
        }
        let Shared {
            guard,
            token_request_for,
            ..
        } = &*self.shared;
        let is_special = !request.extensions().is_empty() || token_request_for.is_some();
        match guard.judge(request.uri()) {
            Verdict::WithToken if !is_special => Ok(Choice::Layer),
            verdict => self.choose_closely(verdict, request),
        }
    }

    fn choose_closely<B>(
        &self,
        verdict: Verdict,
        request: &Request<B>,
    ) -> Result<Choice, BoxError> {
        let extensions = request.extensions();
        if extensions.get::<NoAccessToken>().is_some() {
            return Ok(Choice::Nothing);
        }
        match verdict {
            Verdict::WithToken => {}
            Verdict::WithoutToken => return Ok(Choice::Nothing),
            Verdict::Refused => return Err(InsecureTransport.into()),
        }
        if let Some(source) = extensions.get::<TokenSource>() {
            return Ok(Choice::Own(source.clone()));
        }
        match (
            extensions.get::<TokenRequest>(),
            &self.shared.token_request_for,
        ) {
            (Some(request), _) => self.own(request.clone()),
            (None, Some(_)) => Ok(Choice::ByParts),
            (None, None) => Ok(Choice::Layer),
        }
    }

    /// The token that a request names for itself.
    fn own(&self, request: TokenRequest) -> Result<Choice, BoxError> {
        match self.shared.source.sibling(request) {
            Some(source) => Ok(Choice::Own(source)),
            None => Err(TokenError::request(FIXED).into()),
        }
    }

    /// Lets the function of the layer choose for a request that has not chosen for itself.
    #[cold]
    fn choose_by_parts<B>(&self, request: Request<B>) -> (Request<B>, Result<Choice, BoxError>) {
        let (parts, body) = request.into_parts();
        let choice = match &self.shared.token_request_for {
            Some(token_request_for) => self.own(token_request_for(&parts)),
            None => Ok(Choice::Layer),
        };
        (Request::from_parts(parts, body), choice)
    }

    fn source<'a>(&'a self, choice: &'a Choice) -> &'a TokenSource {
        match choice {
            Choice::Own(source) => source,
            Choice::Layer | Choice::ByParts | Choice::Nothing => &self.shared.source,
        }
    }
}

impl<S: Clone, R> AddAccessToken<S, R> {
    /// Drops the readied inner service, so that what it has reserved is given back, and returns a clone that has to be readied
    /// first. A token client that shares a limit with this very stack could else wait for ever.
    fn give_reservation_back(&mut self) -> S {
        self.inner = self.inner.clone();
        self.inner.clone()
    }
}

impl<S, R, B, ResBody> Service<Request<B>> for AddAccessToken<S, R>
where
    S: Service<Request<B>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    R: Resend<B>,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B, S::Future, R, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut choice = self.choose(&request);
        if let Ok(Choice::ByParts) = choice {
            (request, choice) = self.choose_by_parts(request);
        }
        let (token, choice) = match choice {
            Ok(Choice::Layer | Choice::ByParts) => {
                let headers = request.headers_mut();
                let token = self.copy.authorize(headers, &self.shared.source);
                (token, Choice::Layer)
            }
            Ok(Choice::Own(source)) => {
                let token = source.authorize(request.headers_mut());
                // For those below who notice refusals: this token is not that of the layer.
                let name = token.unwrap_or(TokenName::NONE);
                request.extensions_mut().insert(name);
                (token, Choice::Own(source))
            }
            Ok(Choice::Nothing) => return ResponseFuture::bare(self.inner.call(request)),
            Err(error) => {
                self.give_reservation_back();
                return ResponseFuture::failed(error);
            }
        };
        match token {
            Some(token) if !R::IS_ON => {
                ResponseFuture::sending(self.inner.call(request), token, None)
            }
            Some(token) => {
                let source = self.source(&choice);
                let (resend, inner) = (&self.resend, &self.inner);
                let (request, kept) = Kept::of(request, None, resend, Reasons::ALL, source, inner);
                ResponseFuture::sending(self.inner.call(request), token, kept)
            }
            None => self.call_cold(request, self.source(&choice).clone()),
        }
    }
}

impl<S, R> AddAccessToken<S, R> {
    /// Sends a request for which there is no token now, or only one that takes a proof.
    #[cold]
    fn call_cold<B, ResBody>(
        &mut self,
        mut request: Request<B>,
        source: TokenSource,
    ) -> ResponseFuture<S, B, S::Future, R, ResBody>
    where
        S: Service<Request<B>, Response = Response<ResBody>> + Clone,
        R: Resend<B>,
    {
        let target = self.shared.guard.target(request.uri());
        let mut begun = None;
        if let Some(Authorization {
            value,
            token,
            bound: Some(bound),
        }) = source.usable_authorization()
        {
            let uri = target.as_ref().unwrap_or(request.uri()).clone();
            let mut proving = proof::prove(&bound, request.method(), &uri);
            match proving.as_mut().and_then(proof::at_once) {
                Some(Ok(proof)) => {
                    let headers = request.headers_mut();
                    headers.insert(AUTHORIZATION, value);
                    headers.insert(DPOP, proof);
                    token.tell(request.extensions_mut());
                    let proven = Some(Proven::new(bound, uri));
                    let (resend, inner) = (&self.resend, &self.inner);
                    let (request, kept) =
                        Kept::of(request, proven, resend, Reasons::ALL, &source, inner);
                    return ResponseFuture::sending(self.inner.call(request), token, kept);
                }
                Some(Err(error)) => {
                    self.give_reservation_back();
                    return ResponseFuture::failed(error.into());
                }
                None => {
                    let bound = Some(bound);
                    let authorization = Authorization {
                        value,
                        token,
                        bound,
                    };
                    begun = proving.map(|proving| (proving, authorization));
                }
            }
        }
        let (service, resend) = (self.give_reservation_back(), self.resend.clone());
        ResponseFuture::cold(Cold::new(source, request, target, service, resend, begun))
    }
}

impl<S, R> fmt::Debug for AddAccessToken<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddAccessToken")
            .field("source", &self.shared.source)
            .finish_non_exhaustive()
    }
}
