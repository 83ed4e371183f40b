//! Fetches the metadata from one address over any HTTP service, and reads the response.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header::LOCATION, response::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{ServerMetadata, unusable::Unusable};
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
#[derive(Clone, Copy, Default)]
pub(crate) struct Rules {
    pub(crate) allow_http: bool,
    /// Whether all URIs must be outside of this machine and of private networks, as far as their text says.
    pub(crate) public_only: bool,
    /// The maximum size of the document, in bytes.
    pub(crate) limit: usize,
}

/// An HTTP service of an erased type. It is called with a request and the maximum size of the response body.
#[derive(Clone)]
pub(crate) struct Http(Arc<ErasedService<(Request<Bytes>, usize), SendResult>>);

type SendResult = Result<Received, BoxError>;

/// Whose metadata are fetched, for messages.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    /// `issuer`
    pub(super) what: &'static str,
    pub(super) name: &'a str,
    /// What to check if there are no metadata.
    pub(super) if_none: &'static str,
}

impl<'a> Subject<'a> {
    fn issuer(name: &'a str) -> Self {
        Self {
            what: "issuer",
            name,
            if_none: "check the issuer, give the address of the document with `metadata_uri`, or give the URI of the endpoint \
                      itself with `new`",
        }
    }
}

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
    let subject = Subject::issuer(&issuer);
    let answer = get(&http, subject, &uri, rules.limit).await?;
    read(answer, subject, &uri, rules)
}

/// Requests a document, and returns a successful answer.
pub(super) async fn get(
    http: &Http,
    subject: Subject<'_>,
    uri: &Uri,
    limit: usize,
) -> Result<Answer, Unavailable> {
    let received = http.0.call((request(uri.clone()), limit)).await;
    successful(received, subject, uri, limit)
}

/// The failure of an address that did not answer within the time for all addresses.
pub(super) fn out_of_time(issuer: &str, uri: &Uri) -> Unavailable {
    late(Subject::issuer(issuer), uri)
}

/// The failure of an address that did not answer in time.
pub(super) fn late(subject: Subject<'_>, uri: &Uri) -> Unavailable {
    let why = "the server did not respond in time";
    let error = failure(subject, uri, TokenErrorKind::Timeout, why, None, None);
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

pub(super) fn failure(
    subject: Subject<'_>,
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
        "the metadata of the {} `{}`: {why} (requested from {:?})",
        subject.what,
        Quoted(subject.name),
        Printable(uri)
    );
    TokenError::metadata(kind, message, source, answer, wait)
}

fn unavailable(error: TokenError, is_document: bool) -> Unavailable {
    Unavailable {
        explains: Explains::of(&error, is_document),
        error,
        is_unreachable: false,
    }
}

fn successful(
    received: SendResult,
    subject: Subject<'_>,
    uri: &Uri,
    limit: usize,
) -> Result<Answer, Unavailable> {
    use TokenErrorKind::{Body, BodyTooLarge, Service, Timeout, UnexpectedStatus};
    let fail = |is_document, kind, why: &str, source, answer| {
        let error = failure(subject, uri, kind, why, source, answer);
        unavailable(error, is_document)
    };
    let redirects = || {
        format!(
            "the server responded with a redirect, which is not followed because it could lead anywhere; check the {}",
            subject.what
        )
    };
    let (parts, body) = received.map_err(|source| {
        let is_unreachable = error::is_not_sent(&*source);
        let (kind, why) = if error::is_followed_redirect(&*source) {
            (UnexpectedStatus, redirects())
        } else if error::is_timeout(&*source) {
            (Timeout, "the server did not respond in time".into())
        } else {
            (Service, "the request failed".into())
        };
        Unavailable {
            is_unreachable,
            ..fail(false, kind, &why, Some(source), None)
        }
    })?;
    let status = parts.status;
    if !status.is_success() {
        let why = match status {
            _ if status.is_redirection() && parts.headers.contains_key(LOCATION) => redirects(),
            _ if status.is_server_error() => "the server failed".into(),
            StatusCode::TOO_MANY_REQUESTS => "the server limits the rate of requests".into(),
            _ => format!("there are none; {}", subject.if_none),
        };
        let answer = match body {
            Ok(body) => Answer::new(status, parts.headers, body),
            Err(_) => Answer::without_body(status, parts.headers),
        };
        return Err(fail(false, UnexpectedStatus, &why, None, Some(answer)));
    }
    let body = body.map_err(|source| {
        let (kind, why) = if error::chain(&*source).any(|error| error.is::<LengthLimitError>()) {
            let why = format!(
                "the response is larger than {} bytes; raise the limit with `max_response_body`",
                limit
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
    Ok(Answer::new(status, parts.headers, body))
}

fn read(
    answer: Answer,
    subject: Subject<'_>,
    uri: &Uri,
    rules: Rules,
) -> Result<Document, Unavailable> {
    let invalid = |why: &str, answer| {
        failure(
            subject,
            uri,
            TokenErrorKind::InvalidResponse,
            why,
            None,
            Some(answer),
        )
    };
    match ServerMetadata::parse(&answer.raw, subject.name, uri, rules) {
        Ok(metadata) => Ok(Document {
            incomplete: metadata.why_incomplete().map(|why| invalid(why, answer)),
            metadata: Arc::new(metadata),
        }),
        Err(unusable) => Err(refused(unusable, subject, uri, answer)),
    }
}

/// The failure of an address whose document cannot be used.
pub(super) fn refused(
    unusable: Unusable,
    subject: Subject<'_>,
    uri: &Uri,
    answer: Answer,
) -> Unavailable {
    let (is_document, why) = match unusable {
        Unusable::NoDocument(why) => match error::compression(&answer) {
            Some(how) => (false, format!("the server returned {how}")),
            None => (false, why.to_owned()),
        },
        Unusable::Wrong(why) => (true, why),
    };
    let kind = TokenErrorKind::InvalidResponse;
    let error = failure(subject, uri, kind, &why, None, Some(answer));
    unavailable(error, is_document)
}
