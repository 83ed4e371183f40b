//! `AuthorizeAnywhere`: the service that the layer makes.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    Extensions, HeaderMap, Method, Request, Response, StatusCode, Uri, Version,
    header::AUTHORIZATION,
};
use tower_service::Service;

use super::{
    authorizer::Authorizer,
    demand::Demand,
    question::Question,
    table::{Access, Stop},
};
use crate::{
    add_access_token::{AccessTokenRefused, CloneBody, Resend, service::AddAccessToken},
    base::{clone_service::CloneService, erased_service::ready},
    error::{BoxError, TokenError, TokenErrorKind},
    message::{Challenge, NoAccessToken, TokenRequest},
    token_cache::source::TokenSource,
};

/// Obtains a token for any API that demands one. Made by [`AuthorizeAnywhereLayer`](super::AuthorizeAnywhereLayer).
///
/// See the [module](super) for the rules. Clones share all tokens.
///
/// # Errors
///
/// These errors, boxed: [`NotAuthorized`](super::NotAuthorized) if an API demands a token that cannot be obtained, and those of
/// [`AddAccessToken`](crate::AddAccessToken).
///
/// # Cancel safety
///
/// If the future is dropped during an authorization, others that wait for the same one continue it. If nobody does, it ends: a user who is
/// signing in then has to start again.
#[derive(Clone)]
pub struct AuthorizeAnywhere<S, R = CloneBody> {
    inner: AddAccessToken<S, R>,
    authorizer: Arc<Authorizer>,
    resend: R,
}

impl<S, R> AuthorizeAnywhere<S, R> {
    pub(super) fn new(inner: AddAccessToken<S, R>, authorizer: Arc<Authorizer>, resend: R) -> Self {
        Self {
            inner,
            authorizer,
            resend,
        }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        self.inner.get_ref()
    }
}

impl<S, R, B, ResBody> Service<Request<B>> for AuthorizeAnywhere<S, R>
where
    S: Service<Request<B>, Response = Response<ResBody>> + CloneService + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    R: Resend<B, Saved: Send> + Send + Sync + 'static,
    AddAccessToken<S, R>:
        Service<Request<B>, Response = Response<ResBody>, Error = BoxError, Future: Send> + Send,
    B: Send + 'static,
    ResBody: Send + 'static,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResBody>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let names_its_token = has_own_token(&request);
        let url = request.uri().clone();
        if names_its_token || url.authority().is_none() {
            return Box::pin(self.inner.call(request));
        }
        let spare = self.inner.clone();
        let inner = mem::replace(&mut self.inner, spare);
        let (authorizer, resend) = (self.authorizer.clone(), self.resend.clone());
        Box::pin(send(inner, authorizer, resend, request, url))
    }
}

/// Whether the caller says which token the request carries.
fn has_own_token<B>(request: &Request<B>) -> bool {
    let extensions = request.extensions();
    request.headers().contains_key(AUTHORIZATION)
        || extensions.get::<NoAccessToken>().is_some()
        || extensions.get::<TokenSource>().is_some()
        || extensions.get::<TokenRequest>().is_some()
}

async fn send<S, R, B, ResBody>(
    mut inner: AddAccessToken<S, R>,
    authorizer: Arc<Authorizer>,
    resend: R,
    mut request: Request<B>,
    url: Uri,
) -> Result<Response<ResBody>, BoxError>
where
    AddAccessToken<S, R>:
        Service<Request<B>, Response = Response<ResBody>, Error = BoxError> + Clone,
    R: Resend<B>,
{
    let mut access = authorizer.access(&url);
    let mut rounds_left = authorizer.settings.max_rounds;
    loop {
        let copy = Head::of(&request);
        let (to_send, body) = resend.save(request);
        let outcome = inner.call(with_token_of(to_send, access.as_deref())).await;

        let Some(question) = question(&outcome, &url, access.as_ref()) else {
            if let (Ok(response), Some(access)) = (&outcome, &access)
                && !is_refusal(response)
            {
                access.note_accepted();
            }
            return outcome;
        };
        if rounds_left == 0 {
            return outcome;
        }
        rounds_left -= 1;
        access = match authorizer.answer(question).await {
            Ok(access) => Some(access),
            Err(Stop::Keep) => return outcome,
            Err(Stop::Failed(error)) => return Err(error.into()),
        };
        request = match R::restore(body) {
            Some(body) if R::IS_ON => copy.request(body),
            _ => return outcome,
        };
        drop(outcome);
        inner = inner.clone();
        ready(&mut inner).await?;
    }
}

/// Says which token the request carries.
fn with_token_of<B>(mut request: Request<B>, access: Option<&Access>) -> Request<B> {
    let extensions = request.extensions_mut();
    match access {
        Some(access) => drop(extensions.insert(access.source.clone())),
        None => drop(extensions.insert(NoAccessToken)),
    }
    request
}

/// Returns what the outcome demands.
fn question<ResBody>(
    outcome: &Result<Response<ResBody>, BoxError>,
    url: &Uri,
    sent: Option<&Arc<Access>>,
) -> Option<Question> {
    let (demand, challenges) = match outcome {
        Ok(response) if is_refusal(response) => {
            let challenges = Challenge::all(response.headers());
            let is_refused = response.extensions().get::<AccessTokenRefused>().is_some();
            let demand = Demand::of(response.status(), &challenges, sent.is_some(), is_refused)?;
            (demand, challenges)
        }
        Ok(_) => return None,
        Err(error) => {
            let error = TokenError::find_in_chain(&**error)?;
            let sent = sent.filter(|_| error.kind() == TokenErrorKind::SignInRequired)?;
            (Demand::OtherToken, sent.challenges.clone())
        }
    };
    Some(Question {
        url: url.clone(),
        demand,
        challenges,
        sent: sent.cloned(),
        has_ended: outcome.is_err(),
    })
}

fn is_refusal<B>(response: &Response<B>) -> bool {
    matches!(
        response.status(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    )
}

/// A request without its body, as it was before it got a token.
struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    extensions: Extensions,
}

impl Head {
    fn of<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            extensions: request.extensions().clone(),
        }
    }

    fn request<B>(self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        *request.extensions_mut() = self.extensions;
        request
    }
}

impl<S, R> fmt::Debug for AuthorizeAnywhere<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizeAnywhere").finish_non_exhaustive()
    }
}
