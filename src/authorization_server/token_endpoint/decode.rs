//! From an HTTP response to a token or an error. Pure: the time of day is an argument.

mod fields;

use std::{borrow::Cow, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::LOCATION, response::Parts};
use http_body_util::LengthLimitError;

use self::fields::{Member, Members};

use crate::{
    dpop::{self, DpopKey},
    error::{
        self, Answer, BoxError, ErrorCode, ErrorResponse, REDIRECTS, TokenError, TokenErrorKind,
        retry_after,
    },
    message::{AccessToken, Fields, TokenResponse, TokenType},
};

/// To what the token is to be bound.
#[derive(Clone, Copy, Default)]
pub(super) struct Binding<'a> {
    pub(super) key: Option<&'a DpopKey>,
    /// Whether a token without a binding is taken all the same.
    pub(super) allow_bearer: bool,
}

/// Reads the answer of a token endpoint. `now` is what a `Retry-After` date is measured against.
pub(super) fn decode(
    parts: Parts,
    body: Bytes,
    now: SystemTime,
    binding: Binding<'_>,
) -> Result<TokenResponse, TokenError> {
    let answer = Answer::new(parts.status, parts.headers, body);
    let read = if answer.status.is_success() {
        success(answer.text(), binding)
    } else {
        Err(refusal(answer.status, &answer.headers, answer.text()))
    };
    match read {
        Ok(fields) => Ok(TokenResponse::new(fields, answer)),
        Err(failure) => {
            let retry_after = retry_after(&answer.headers, now);
            let code = failure.error_response.as_ref().map(ErrorResponse::code);
            let demands_nonce = dpop::demands_nonce(answer.status, &answer.headers, code);
            let error = TokenError::answer(
                failure.kind,
                failure.message,
                answer,
                failure.error_response,
                retry_after,
            );
            Err(error.demanding_nonce(demands_nonce))
        }
    }
}

/// Reads an answer whose body failed with `source`. What the server said by its status and headers counts still.
pub(super) fn decode_without_body(
    parts: Parts,
    source: BoxError,
    limit: usize,
    now: SystemTime,
) -> TokenError {
    let retry_after = retry_after(&parts.headers, now);
    let (kind, what) = if error::chain(&*source).any(|error| error.is::<LengthLimitError>()) {
        let what = format!("is larger than {limit} bytes");
        (TokenErrorKind::BodyTooLarge, Cow::Owned(what))
    } else if error::is_timeout(&*source) {
        (TokenErrorKind::Timeout, "did not end in time".into())
    } else {
        (TokenErrorKind::Body, "broke off".into())
    };
    let (kind, message) = if !parts.status.is_success() {
        let refusal = refusal(parts.status, &parts.headers, b"");
        let message = format!("{}; its answer {what}", refusal.message);
        (refusal.kind, message)
    } else if kind == TokenErrorKind::BodyTooLarge {
        let message = format!(
            "the answer of the token endpoint {what}; \
             raise the limit with `TokenEndpoint::max_response_body`, or check the URI"
        );
        (kind, message)
    } else {
        (kind, format!("the answer of the token endpoint {what}"))
    };
    let answer = Answer::without_body(parts.status, parts.headers);
    TokenError::body(kind, message, source, answer, retry_after)
}

/// Why an answer is not a token.
struct Failure {
    kind: TokenErrorKind,
    message: Cow<'static, str>,
    error_response: Option<ErrorResponse>,
}

impl Failure {
    fn unusable(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: TokenErrorKind::InvalidResponse,
            message: message.into(),
            error_response: None,
        }
    }
}

fn success(body: &[u8], binding: Binding<'_>) -> Result<Fields, Failure> {
    let members = match Members::parse(body) {
        Ok(members) => members,
        Err(error) => return Err(Failure::unusable(describe_unparsed(body, &error))),
    };
    if let Some(error) = error_response(&members) {
        return Err(refused(error));
    }
    if members.error.is_present() && members.error.as_text().is_none() {
        return Err(Failure::unusable(
            "the token endpoint answered with an `error` that is not a text",
        ));
    }
    if let Some(name) = members.repeated {
        return Err(Failure::unusable(format!(
            "the token endpoint answered with two members `{name}` (RFC 6749 section 3.2 allows one)"
        )));
    }
    let token_type = match &members.token_type {
        Member::Text(token_type) => TokenType::from(&**token_type),
        Member::Absent if binding.key.is_some() => TokenType::DPOP,
        Member::Absent => TokenType::BEARER,
        _ => {
            return Err(Failure::unusable(
                "the token endpoint answered with a `token_type` that is not a text",
            ));
        }
    };
    if binding.key.is_some() && token_type == TokenType::BEARER && !binding.allow_bearer {
        return Err(Failure {
            kind: TokenErrorKind::UnsupportedTokenType,
            ..Failure::unusable(DOWNGRADED)
        });
    }
    let access_token = match members.access_token {
        Member::Text(access_token) => AccessToken::from_text(&access_token, token_type.clone())
            .map_err(|error| {
                Failure::unusable(format!("the token endpoint answered with what is {error}"))
            })?,
        Member::Absent => {
            return Err(Failure::unusable(
                "the token endpoint answered without an `access_token`",
            ));
        }
        _ => {
            return Err(Failure::unusable(
                "the token endpoint answered with an `access_token` that is not a text",
            ));
        }
    };
    let access_token = match binding.key {
        Some(key) if token_type == TokenType::DPOP => access_token.bind(key.clone()),
        _ => access_token,
    };
    Ok(Fields {
        access_token,
        expires_in: members.expires_in,
        refresh_in: members.refresh_in,
        // An empty one is none: it must not take the place of the one in use.
        refresh_token: members
            .refresh_token
            .text()
            .filter(|token| !token.is_empty())
            .map(Into::into),
        scope: members.scope.text_or_list().map(Into::into),
        id_token: members.id_token.text().map(Into::into),
        issued_token_type: members.issued_token_type.text().map(Into::into),
    })
}

const DOWNGRADED: &str = "the token endpoint answered with a Bearer token, though one that is bound to the DPoP key was asked for; \
                          let the server issue DPoP tokens to this client (RFC 9449 section 5), or leave the key out";

fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    // A description in Latin-1, as some servers send it, must not cost the error code.
    let text = String::from_utf8_lossy(body);
    let members = Members::parse(text.as_bytes()).ok();
    if let Some(error) = members.as_ref().and_then(error_response) {
        return refused(error);
    }
    let message = if status.is_redirection() && headers.contains_key(LOCATION) {
        REDIRECTS
    } else if status == StatusCode::NOT_FOUND || status == StatusCode::METHOD_NOT_ALLOWED {
        "there is no token endpoint at this URI; check the URI"
    } else if status == StatusCode::UNAUTHORIZED {
        "the token endpoint refused the request without saying why; check the id and the secret of the client"
    } else if status.is_server_error() {
        "the token endpoint failed without saying why"
    } else {
        "the token endpoint refused the request without saying why"
    };
    Failure {
        kind: TokenErrorKind::UnexpectedStatus,
        message: message.into(),
        error_response: None,
    }
}

fn refused(error: ErrorResponse) -> Failure {
    let message = match error.code() {
        ErrorCode::InvalidClient => {
            "the token endpoint does not accept the client; check its id, its secret and the method of client authentication"
        }
        ErrorCode::InvalidGrant => {
            "the token endpoint does not accept the grant; it is wrong, expired or used up, so obtain a new one"
        }
        ErrorCode::InvalidScope => "the token endpoint does not accept the scope; check it",
        ErrorCode::InvalidTarget => {
            "the token endpoint does not accept the resource or audience; check it"
        }
        ErrorCode::UnauthorizedClient => {
            "the client may not use this grant; change its registration, or the grant"
        }
        ErrorCode::UnsupportedGrantType => "the token endpoint does not know this grant type",
        ErrorCode::AuthorizationPending => "the user has not decided yet; ask again later",
        ErrorCode::SlowDown => "the token endpoint was asked too often; ask five seconds later",
        ErrorCode::TemporarilyUnavailable | ErrorCode::ServerError => {
            "the token endpoint has a problem of its own; ask again later"
        }
        _ => "the token endpoint refused the request",
    };
    Failure {
        kind: TokenErrorKind::ErrorResponse,
        message: message.into(),
        error_response: Some(error),
    }
}

fn error_response(members: &Members<'_>) -> Option<ErrorResponse> {
    let code = members.error.as_text().filter(|code| !code.is_empty())?;
    Some(ErrorResponse {
        code: code.into(),
        description: members.error_description.as_text().map(Into::into),
        uri: members.error_uri.as_text().map(Into::into),
    })
}

/// What the body is instead of a JSON object, without showing any of it: serde's own words could quote a token.
fn describe_unparsed(body: &[u8], error: &serde_json::Error) -> Cow<'static, str> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => "the token endpoint answered with an empty body".into(),
        Some(b'<') => {
            "the token endpoint answered with a page instead of JSON; check the URI of the token endpoint".into()
        }
        Some(b'{') => format!(
            "the token endpoint answered with JSON that {} at line {} column {}",
            if error.is_eof() { "ends too early" } else { "is broken" },
            error.line(),
            error.column()
        )
        .into(),
        Some(_) => "the token endpoint answered with something else than a JSON object".into(),
    }
}
