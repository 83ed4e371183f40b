//! From an HTTP response to a result or an error. Pure: the time of day is an argument.

use std::{borrow::Cow, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::LOCATION, response::Parts};
use http_body_util::LengthLimitError;

use super::{EndpointCall, EndpointNames, JsonValue, Said, challenge_error, server_words};
use crate::{
    base::server_clock,
    dpop::{self, DpopKey},
    error::{
        self, Answer, BoxError, ErrorCode, ErrorResponse, TokenError, TokenErrorKind, redirects,
        retry_after,
    },
};

/// Reads the response of an endpoint, whose body may have failed or be larger than `limit`. `now` is the time that a `Retry-After`
/// date is compared with.
pub(super) fn decode<C: EndpointCall>(
    call: &C,
    parts: Parts,
    body: Result<Bytes, BoxError>,
    limit: usize,
    dpop: Option<&DpopKey>,
    now: SystemTime,
) -> Result<C::Response, TokenError> {
    let is_success = parts.status.is_success();
    match body {
        Ok(body) => {
            let answer = Answer::new(parts.status, parts.headers, body);
            if is_success {
                return call.decode(answer, dpop, now);
            }
            let bad = BadAnswer::of_status::<C>(&answer);
            Err(bad.into_error(answer, now))
        }
        Err(source) => match call.decode_without_body() {
            Some(response) if is_success => Ok(response),
            _ => Err(without_body::<C>(parts, source, limit, now)),
        },
    }
}

/// The error of a response whose body failed with `source`. What the server said by its status and headers still counts.
fn without_body<C: EndpointCall>(
    parts: Parts,
    source: BoxError,
    limit: usize,
    now: SystemTime,
) -> TokenError {
    let retry_after = retry_after(&parts.headers, now);
    let EndpointNames {
        endpoint, service, ..
    } = C::NAMES;
    let (kind, what) = if error::chain(&*source).any(|error| error.is::<LengthLimitError>()) {
        let what = format!("is larger than {limit} bytes");
        (TokenErrorKind::BodyTooLarge, Cow::Owned(what))
    } else if error::is_timeout(&*source) {
        (TokenErrorKind::Timeout, "did not end in time".into())
    } else {
        (TokenErrorKind::Body, "broke off".into())
    };
    let answer = Answer::without_body(parts.status, parts.headers);
    let (kind, message) = if !parts.status.is_success() {
        let bad = BadAnswer::of_status::<C>(&answer);
        (bad.kind, format!("{}; its response {what}", bad.message))
    } else if kind == TokenErrorKind::BodyTooLarge {
        let message = format!(
            "the response of the {endpoint} {what}; \
             raise the limit with `{service}::max_response_body`, or check the URI"
        );
        (kind, message)
    } else {
        (kind, format!("the response of the {endpoint} {what}"))
    };
    TokenError::body(kind, message, source, answer, retry_after)
}

/// Why a response is no success.
pub(crate) struct BadAnswer {
    kind: TokenErrorKind,
    message: Cow<'static, str>,
    error_response: Option<ErrorResponse>,
    /// What the server says in its own words.
    words: Option<String>,
    /// Whether the response is a success that a later attempt may complete: it is empty, cut off or a page.
    is_incomplete: bool,
}

impl BadAnswer {
    /// A response that cannot be used. `what` is the rest of a sentence that begins with the name of the endpoint.
    pub(crate) fn unusable<C: EndpointCall>(what: impl AsRef<str>) -> Self {
        let message = format!("the {} {}", C::NAMES.endpoint, what.as_ref());
        Self {
            kind: TokenErrorKind::InvalidResponse,
            message: message.into(),
            error_response: None,
            words: None,
            is_incomplete: false,
        }
    }

    pub(crate) fn with_kind(self, kind: TokenErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// A success without a token. If it is an error nevertheless, the error is shown.
    pub(crate) fn refusal<C: EndpointCall>(answer: &Answer, what: &str) -> Self {
        match server_words::read(answer.text(), answer.status) {
            Said::OauthError(error) => Self::named::<C>(error),
            Said::Words(words) => Self {
                words: Some(words),
                ..Self::unusable::<C>(what)
            },
            Said::Unknown | Said::Nothing => Self::unusable::<C>(what),
        }
    }

    /// A body that is no JSON object. Nothing of it is shown: serde's own message could quote a token.
    pub(crate) fn unparsed<C: EndpointCall>(answer: &Answer, error: &serde_json::Error) -> Self {
        let endpoint = C::NAMES.endpoint;
        if let Some(how) = error::compression(answer) {
            return Self::unusable::<C>(format!("returned {how}"));
        }
        let (is_incomplete, what) = match first_byte(answer.text()) {
            None => (true, "returned an empty body".to_owned()),
            Some(b'<') => (
                true,
                format!("returned a page instead of JSON; check the URI of the {endpoint}"),
            ),
            Some(b'{') => (
                error.is_eof(),
                format!(
                    "returned JSON that {} at line {} column {}",
                    if error.is_eof() {
                        "ends too early"
                    } else {
                        "is broken"
                    },
                    error.line(),
                    error.column()
                ),
            ),
            Some(_) => (
                !error.is_data() && is_text_of_a_gateway(answer),
                "returned something other than a JSON object".to_owned(),
            ),
        };
        Self {
            is_incomplete,
            ..Self::unusable::<C>(what)
        }
    }

    /// An error that the server named, with any status.
    pub(crate) fn named<C: EndpointCall>(error: ErrorResponse) -> Self {
        let endpoint = C::NAMES.endpoint;
        let message = match (C::explain(error.code()), error.code()) {
            (Some(message), _) => message.into(),
            (None, &ErrorCode::INVALID_CLIENT) => {
                format!("the {endpoint} does not accept the client").into()
            }
            (None, &(ErrorCode::TEMPORARILY_UNAVAILABLE | ErrorCode::SERVER_ERROR)) => {
                format!("the {endpoint} has a problem of its own; try again later").into()
            }
            (None, _) => format!("the {endpoint} refused the request").into(),
        };
        Self {
            kind: TokenErrorKind::ErrorResponse,
            message,
            error_response: Some(error),
            words: None,
            is_incomplete: false,
        }
    }

    /// A response with a status other than 2xx.
    fn of_status<C: EndpointCall>(answer: &Answer) -> Self {
        let endpoint = C::NAMES.endpoint;
        let said = server_words::read(answer.text(), answer.status);
        if C::READS_CHALLENGES
            && !matches!(said, Said::OauthError(_))
            && let Some(error) = challenge_error::read(&answer.headers)
        {
            return Self::named::<C>(error);
        }
        let (words, how) = match said {
            Said::OauthError(error) => return Self::named::<C>(error),
            Said::Words(words) => (Some(words), String::new()),
            Said::Unknown => (
                None,
                " with an error of its own; see `TokenError::json`".into(),
            ),
            Said::Nothing => of_text(answer),
        };
        let status = answer.status;
        let message = if status.is_redirection() && answer.headers.contains_key(LOCATION) {
            redirects(endpoint)
        } else if status == StatusCode::NOT_FOUND || status == StatusCode::METHOD_NOT_ALLOWED {
            format!("there is no {endpoint} at this URI; check the URI")
        } else if status.is_server_error() {
            format!("the {endpoint} failed{how}")
        } else {
            format!("the {endpoint} refused the request{how}")
        };
        Self {
            kind: TokenErrorKind::UnexpectedStatus,
            message: message.into(),
            error_response: None,
            words,
            is_incomplete: false,
        }
    }

    pub(crate) fn into_error(self, answer: Answer, now: SystemTime) -> TokenError {
        let retry_after = retry_after(&answer.headers, now);
        let code = self.error_response.as_ref().map(ErrorResponse::code);
        let demands_nonce = dpop::demands_nonce(answer.status, &answer.headers, code)
            && self.words.as_deref().is_none_or(mentions_nonce);
        let mut message = self.message;
        if let Some(hint) = code.and_then(|code| clock_hint(code, &answer.headers, now)) {
            message.to_mut().push_str(&format!("; {hint}"));
        }
        let error =
            TokenError::answer(self.kind, message, answer, self.error_response, retry_after);
        error
            .demanding_nonce(demands_nonce)
            .saying(self.words, self.is_incomplete)
    }
}

/// Whether an error in the server's own words can be a demand for a nonce. Any response may contain a nonce.
fn mentions_nonce(words: &str) -> bool {
    words.to_ascii_lowercase().contains("nonce")
}

/// A hint at the clocks, if the error may come from a signature whose time the server does not accept.
fn clock_hint(code: &ErrorCode, headers: &HeaderMap, now: SystemTime) -> Option<String> {
    match *code {
        ErrorCode::INVALID_CLIENT | ErrorCode::INVALID_GRANT | ErrorCode::INVALID_DPOP_PROOF => {
            server_clock::hint(headers, now)
        }
        _ => None,
    }
}

/// The words of an error whose body is no JSON, or how it says nothing.
fn of_text(answer: &Answer) -> (Option<String>, String) {
    let text = answer.text();
    if let Some(how) = error::compression(answer) {
        return (None, format!("; it returned {how}"));
    }
    match first_byte(text) {
        // A page is for people with a browser.
        None | Some(b'<' | b'{' | b'[') => (None, " without giving a reason".into()),
        Some(_) if answer.has_content_type("text/plain") => {
            let text = String::from_utf8_lossy(text);
            (
                Some(text.trim().chars().take(4000).collect()),
                String::new(),
            )
        }
        Some(_) => (
            None,
            " with a response that is not JSON; see `TokenError::raw`".into(),
        ),
    }
}

/// Whether the body is a text that is no token. Old servers send tokens as a form.
fn is_text_of_a_gateway(answer: &Answer) -> bool {
    let is_text = ["text/html", "text/plain"].map(|name| answer.has_content_type(name));
    is_text.contains(&true) && !String::from_utf8_lossy(&answer.raw).contains("token=")
}

fn first_byte(text: &[u8]) -> Option<u8> {
    text.iter()
        .copied()
        .find(|byte| !byte.is_ascii_whitespace())
}

/// The members of an error (RFC 6749 §5.2), in the order of [`error_response`].
pub(crate) const ERROR_MEMBERS: [&str; 3] = ["error", "error_description", "error_uri"];

/// The error that the members `error`, `error_description` and `error_uri` name.
pub(crate) fn error_response(
    [code, description, uri]: &[JsonValue<'_>; 3],
) -> Option<ErrorResponse> {
    let code = code.as_text().filter(|code| !code.is_empty())?;
    Some(ErrorResponse {
        code: code.into(),
        description: description.as_text().map(Into::into),
        uri: uri.as_text().map(Into::into),
    })
}
