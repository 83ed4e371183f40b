//! Asks for the metadata, over any HTTP service, and reads the answer.

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::{ACCEPT, LOCATION},
    response::Parts,
};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower_service::Service;

use super::{ServerMetadata, server_metadata::Unusable, well_known};
use crate::{
    base::{
        clock,
        erased_service::{ErasedService, ready},
    },
    error::{self, Answer, BoxError, TokenError, TokenErrorKind, retry_after},
    message::NoAccessToken,
};

/// What is not taken from the server.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) allow_http: bool,
    /// How many bytes the document may have.
    pub(crate) limit: usize,
}

/// An HTTP service without its type, which gives the head of the response and its body.
pub(crate) struct Http(ErasedService<(Request<Bytes>, usize), Result<Asked, BoxError>>);

/// The head of a response and its body, or why the body could not be read.
type Asked = (Parts, Result<Bytes, BoxError>);

impl Http {
    pub(crate) fn new<S, B, ResBody>(service: S, request_body: fn(Bytes) -> B) -> Self
    where
        S: Service<Request<B>, Response = Response<ResBody>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: 'static,
        ResBody: Body + Send + 'static,
        ResBody::Data: Send,
        ResBody::Error: Into<BoxError>,
    {
        Self(ErasedService::new(
            service,
            move |service, (request, limit)| ask(service, request, request_body, limit),
        ))
    }
}

async fn ask<S, B, ResBody>(
    mut service: S,
    request: Request<Bytes>,
    request_body: fn(Bytes) -> B,
    limit: usize,
) -> Result<Asked, BoxError>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    ready(&mut service).await.map_err(Into::into)?;
    let answering = service.call(request.map(request_body));
    let (parts, body) = answering.await.map_err(Into::into)?.into_parts();
    let body = Limited::new(body, limit).collect().await;
    Ok((parts, body.map(|body| body.to_bytes())))
}

/// Asks at each of the well-known places, until one of them has a document or a bad moment.
pub(super) async fn fetch(
    http: &Http,
    issuer: &str,
    rules: Rules,
) -> Result<ServerMetadata, TokenError> {
    let uris = well_known::well_known_uris(issuer, rules.allow_http).map_err(|why| {
        TokenError::request(format!("the token request was not sent: the issuer {why}"))
    })?;
    let mut told = None;
    for uri in uris {
        let asked = http.0.call((request(uri), rules.limit)).await;
        let failure = match read(asked, issuer, rules) {
            Ok(metadata) => return Ok(metadata),
            Err(failure) => failure,
        };
        if failure.is_final {
            return Err(failure.error);
        }
        // A place that is not there says less than one that has something else.
        let says_more = failure.error.status() != Some(StatusCode::NOT_FOUND);
        told = told.filter(|_| !says_more).or(Some(failure.error));
    }
    Err(told.unwrap_or_else(|| TokenError::request("there is no place to ask for the metadata")))
}

fn request(uri: Uri) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = uri;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(ACCEPT, json);
    request.extensions_mut().insert(NoAccessToken);
    request
}

/// Why one place brought nothing.
struct Failure {
    error: TokenError,
    /// Whether there is no use in asking at the other place.
    is_final: bool,
}

fn read(
    asked: Result<Asked, BoxError>,
    issuer: &str,
    rules: Rules,
) -> Result<ServerMetadata, Failure> {
    use TokenErrorKind::{Body, BodyTooLarge, InvalidResponse, Service, Timeout, UnexpectedStatus};
    let fail = |is_final, kind, why: &str, source, answer: Option<Answer>| {
        let wait = answer
            .as_ref()
            .and_then(|answer| retry_after(&answer.headers, clock::wall_now()));
        let message = format!("the metadata of the issuer `{issuer}`: {why}");
        Failure {
            error: TokenError::metadata(kind, message, source, answer, wait),
            is_final,
        }
    };
    let (parts, body) = asked.map_err(|source| {
        let (is_final, kind, why) = if error::is_followed_redirect(&*source) {
            (false, UnexpectedStatus, REDIRECTS)
        } else if error::is_timeout(&*source) {
            (true, Timeout, "the server did not answer in time")
        } else {
            (true, Service, "the request failed")
        };
        fail(is_final, kind, why, Some(source), None)
    })?;
    let status = parts.status;
    if !status.is_success() {
        let why = match status {
            _ if status.is_redirection() && parts.headers.contains_key(LOCATION) => REDIRECTS,
            _ if status.is_server_error() => "the server failed",
            StatusCode::TOO_MANY_REQUESTS => "the server was asked too often",
            _ => {
                "there are none; check the issuer, or name the token endpoint with `TokenEndpoint::new`"
            }
        };
        let answer = match body {
            Ok(body) => Answer::new(status, parts.headers, body),
            Err(_) => Answer::without_body(status, parts.headers),
        };
        let mut failure = fail(false, UnexpectedStatus, why, None, Some(answer));
        failure.is_final = failure.error.is_transient();
        return Err(failure);
    }
    let body = body.map_err(|source| {
        let (kind, why) = if error::chain(&*source).any(|error| error.is::<LengthLimitError>()) {
            let why = format!(
                "the answer is larger than {} bytes; raise the limit with `TokenEndpoint::max_response_body`",
                rules.limit
            );
            (BodyTooLarge, Cow::Owned(why))
        } else if error::is_timeout(&*source) {
            (Timeout, "the answer did not end in time".into())
        } else {
            (Body, "the answer broke off".into())
        };
        let answer = Answer::without_body(status, parts.headers.clone());
        fail(true, kind, &why, Some(source), Some(answer))
    })?;
    ServerMetadata::parse(&body, issuer, rules.allow_http).map_err(|unusable| {
        let (is_final, why) = match unusable {
            Unusable::NoDocument(why) => (false, Cow::Borrowed(why)),
            Unusable::Wrong(why) => (true, Cow::Owned(why)),
        };
        let answer = Answer::new(status, parts.headers, body.clone());
        fail(is_final, InvalidResponse, &why, None, Some(answer))
    })
}

const REDIRECTS: &str =
    "the server redirects, which is not followed since anybody could be there; check the issuer";
