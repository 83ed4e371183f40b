//! Fetches the metadata over any HTTP service, and reads the response.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header::LOCATION, response::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{ServerMetadata, server_metadata::Unusable, well_known};
use crate::{
    authorization_server::http_service::HttpService,
    base::{
        Quoted, clock,
        erased_service::{ErasedService, ready},
        request_headers::default_headers,
    },
    error::{self, Answer, BoxError, SentTo, TokenError, TokenErrorKind, retry_after},
    message::NoAccessToken,
};

/// What is accepted from the server.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) allow_http: bool,
    /// The maximum size of the document, in bytes.
    pub(crate) limit: usize,
}

/// An HTTP service of an erased type. It is called with a request and the maximum size of the response body.
#[derive(Clone)]
pub(crate) struct Http(Arc<ErasedService<(Request<Bytes>, usize), SendResult>>);

type SendResult = Result<Received, BoxError>;

/// The head of a response and its body, or why the body could not be read.
type Received = (Parts, Result<Bytes, BoxError>);

impl Http {
    pub(crate) fn new<S, B>(service: S, request_body: fn(Bytes) -> B) -> Self
    where
        S: HttpService<B>,
        B: 'static,
    {
        Self(Arc::new(ErasedService::new(
            service,
            move |service, (request, limit)| send(service, request, request_body, limit),
        )))
    }
}

async fn send<S, B>(
    mut service: S,
    request: Request<Bytes>,
    request_body: fn(Bytes) -> B,
    limit: usize,
) -> SendResult
where
    S: HttpService<B>,
{
    ready(&mut service).await.map_err(Into::into)?;
    let sent_to = SentTo::of(&request);
    let response = service.call(request.map(request_body));
    let response = response.await.map_err(Into::into)?;
    sent_to.check(&response)?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, limit).collect().await;
    Ok((parts, body.map(|body| body.to_bytes())))
}

/// Tries each well-known URI in turn, until one has the metadata or fails in a way that the other cannot help.
pub(super) async fn fetch(
    http: &Http,
    issuer: &str,
    rules: Rules,
) -> Result<ServerMetadata, TokenError> {
    let uris = well_known::well_known_uris(issuer, rules.allow_http).map_err(|why| {
        TokenError::request(format!("the request was not sent: the issuer {why}"))
    })?;
    let mut reported = None;
    for uri in uris {
        let received = http.0.call((request(uri), rules.limit)).await;
        let unavailable = match read(received, issuer, rules) {
            Ok(metadata) => return Ok(metadata),
            Err(unavailable) => unavailable,
        };
        if unavailable.is_final {
            return Err(unavailable.error);
        }
        // A 404 explains less than any other response.
        let says_more = unavailable.error.status() != Some(StatusCode::NOT_FOUND);
        reported = reported.filter(|_| !says_more).or(Some(unavailable.error));
    }
    Err(reported.unwrap_or_else(|| TokenError::request("the issuer has no well-known URI")))
}

fn request(uri: Uri) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = uri;
    *request.headers_mut() = default_headers(&HeaderMap::new(), 0);
    request.extensions_mut().insert(NoAccessToken);
    request
}

/// Why one well-known URI has no metadata.
struct Unavailable {
    error: TokenError,
    /// Whether it is useless to try the other URI.
    is_final: bool,
}

fn read(received: SendResult, issuer: &str, rules: Rules) -> Result<ServerMetadata, Unavailable> {
    use TokenErrorKind::{Body, BodyTooLarge, InvalidResponse, Service, Timeout, UnexpectedStatus};
    let fail = |is_final, kind, why: &str, source, answer: Option<Answer>| {
        let wait = answer
            .as_ref()
            .and_then(|answer| retry_after(&answer.headers, clock::wall_now()));
        let message = format!("the metadata of the issuer `{}`: {why}", Quoted(issuer));
        Unavailable {
            error: TokenError::metadata(kind, message, source, answer, wait),
            is_final,
        }
    };
    let (parts, body) = received.map_err(|source| {
        let (is_final, kind, why) = if error::is_followed_redirect(&*source) {
            (false, UnexpectedStatus, REDIRECTS)
        } else if error::is_timeout(&*source) {
            (true, Timeout, "the server did not respond in time")
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
            StatusCode::TOO_MANY_REQUESTS => "the server limits the rate of requests",
            _ => {
                "there are none; check the issuer, or give the URI of the endpoint itself with `new`"
            }
        };
        let answer = match body {
            Ok(body) => Answer::new(status, parts.headers, body),
            Err(_) => Answer::without_body(status, parts.headers),
        };
        let mut unavailable = fail(false, UnexpectedStatus, why, None, Some(answer));
        unavailable.is_final = unavailable.error.is_transient();
        return Err(unavailable);
    }
    let body = body.map_err(|source| {
        let (kind, why) = if error::chain(&*source).any(|error| error.is::<LengthLimitError>()) {
            let why = format!(
                "the response is larger than {} bytes; raise the limit with `max_response_body`",
                rules.limit
            );
            (BodyTooLarge, Cow::Owned(why))
        } else if error::is_timeout(&*source) {
            (Timeout, "the response did not end in time".into())
        } else {
            (Body, "the response broke off".into())
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
        let compression = error::compression(&answer).filter(|_| !is_final);
        let why = compression.map_or(why, |how| format!("the server returned {how}").into());
        fail(is_final, InvalidResponse, &why, None, Some(answer))
    })
}

const REDIRECTS: &str = "the server responded with a redirect, which is not followed because it could lead anywhere; check the issuer";
