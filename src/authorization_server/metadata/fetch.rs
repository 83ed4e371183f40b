//! Fetches the metadata from one address over any HTTP service, and reads the response.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header::LOCATION, response::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{ServerMetadata, server_metadata::Unusable};
use crate::{
    authorization_server::http_service::HttpService,
    base::{
        Quoted, clock,
        erased_service::{ErasedService, ready},
        request_headers::default_headers,
        uri::Printable,
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

/// What one address returned.
pub(super) struct Document {
    pub(super) metadata: Arc<ServerMetadata>,
    /// The error for a token endpoint, if the document is of no use for it.
    pub(super) incomplete: Option<TokenError>,
}

/// Why one address has no metadata.
pub(super) struct Unavailable {
    pub(super) error: TokenError,
    pub(super) explains: Explains,
    /// Whether no connection was made, so that no other address of the host can help.
    pub(super) is_unreachable: bool,
}

/// How much an error helps, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Explains {
    /// There is nothing at this address.
    NotFound,
    /// The server has something else there.
    NoDocument,
    /// There is a document, and something is wrong with it.
    WrongDocument,
    /// A later attempt may find the metadata, whatever the other addresses say.
    Transient,
}

impl Explains {
    fn of(error: &TokenError, is_document: bool) -> Self {
        match error.status() {
            _ if error.is_transient() => Self::Transient,
            _ if is_document => Self::WrongDocument,
            Some(StatusCode::NOT_FOUND) => Self::NotFound,
            _ => Self::NoDocument,
        }
    }
}

/// Fetches the metadata from one address.
pub(super) async fn fetch(
    http: Http,
    issuer: Arc<str>,
    uri: Uri,
    rules: Rules,
) -> Result<Document, Unavailable> {
    let received = http.0.call((request(uri.clone()), rules.limit)).await;
    read(received, &issuer, &uri, rules)
}

/// The failure of an address that did not answer within the time for all addresses.
pub(super) fn out_of_time(issuer: &str, uri: &Uri) -> Unavailable {
    let why = "the server did not respond in time";
    let error = failure(issuer, uri, TokenErrorKind::Timeout, why, None, None);
    Unavailable {
        explains: Explains::of(&error, false),
        error,
        is_unreachable: false,
    }
}

fn request(uri: Uri) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = uri;
    *request.headers_mut() = default_headers(&HeaderMap::new(), 0);
    request.extensions_mut().insert(NoAccessToken);
    request
}

fn failure(
    issuer: &str,
    uri: &Uri,
    kind: TokenErrorKind,
    why: &str,
    source: Option<BoxError>,
    answer: Option<Answer>,
) -> TokenError {
    let wait = answer
        .as_ref()
        .and_then(|answer| retry_after(&answer.headers, clock::wall_now()));
    let message = format!(
        "the metadata of the issuer `{}`: {why} (requested from {:?})",
        Quoted(issuer),
        Printable(uri)
    );
    TokenError::metadata(kind, message, source, answer, wait)
}

fn read(
    received: SendResult,
    issuer: &str,
    uri: &Uri,
    rules: Rules,
) -> Result<Document, Unavailable> {
    use TokenErrorKind::{Body, BodyTooLarge, InvalidResponse, Service, Timeout, UnexpectedStatus};
    let fail = |is_document, kind, why: &str, source, answer| {
        let error = failure(issuer, uri, kind, why, source, answer);
        Unavailable {
            explains: Explains::of(&error, is_document),
            error,
            is_unreachable: false,
        }
    };
    let (parts, body) = received.map_err(|source| {
        let is_unreachable = error::is_not_sent(&*source);
        let (kind, why) = if error::is_followed_redirect(&*source) {
            (UnexpectedStatus, REDIRECTS)
        } else if error::is_timeout(&*source) {
            (Timeout, "the server did not respond in time")
        } else {
            (Service, "the request failed")
        };
        Unavailable {
            is_unreachable,
            ..fail(false, kind, why, Some(source), None)
        }
    })?;
    let status = parts.status;
    if !status.is_success() {
        let why = match status {
            _ if status.is_redirection() && parts.headers.contains_key(LOCATION) => REDIRECTS,
            _ if status.is_server_error() => "the server failed",
            StatusCode::TOO_MANY_REQUESTS => "the server limits the rate of requests",
            _ => NONE,
        };
        let answer = match body {
            Ok(body) => Answer::new(status, parts.headers, body),
            Err(_) => Answer::without_body(status, parts.headers),
        };
        return Err(fail(false, UnexpectedStatus, why, None, Some(answer)));
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
    let parsed = ServerMetadata::parse(&body, issuer, uri, rules.allow_http);
    let answer = Answer::new(status, parts.headers, body);
    match parsed {
        Ok(metadata) => Ok(Document {
            incomplete: metadata
                .why_incomplete()
                .map(|why| failure(issuer, uri, InvalidResponse, why, None, Some(answer))),
            metadata: Arc::new(metadata),
        }),
        Err(Unusable::NoDocument(why)) => {
            let compression = error::compression(&answer);
            let why = compression.map_or(why.into(), |how| format!("the server returned {how}"));
            Err(fail(false, InvalidResponse, &why, None, Some(answer)))
        }
        Err(Unusable::Wrong(why)) => Err(fail(true, InvalidResponse, &why, None, Some(answer))),
    }
}

const NONE: &str = "there are none; check the issuer, give the address of the document with `metadata_uri`, \
                    or give the URI of the endpoint itself with `new`";

const REDIRECTS: &str = "the server responded with a redirect, which is not followed because it could lead anywhere; check the issuer";
