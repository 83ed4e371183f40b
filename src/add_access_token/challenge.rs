//! Whether a response refuses the access token. Pure.

use http::{
    HeaderMap, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE},
};

use super::headers;
use crate::dpop::{self, USE_DPOP_NONCE};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const UNAUTHENTICATED: &[u8] = b"16";

/// Whether a response may refuse the access token: what most responses do not.
#[inline]
pub(super) fn may_refuse_token<B>(response: &Response<B>) -> bool {
    match response.status() {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::OK => headers::contains(response.headers(), &GRPC_STATUS),
        _ => false,
    }
}

/// Whether the head of a response says that the access token is not, or no longer, good.
///
/// An error other than `invalid_token` is about something that a new token would not change. A server that takes tokens of both kinds
/// names both schemes, one of them without an error: what it says beside the other one counts then.
pub(super) fn refuses_token<B>(response: &Response<B>) -> bool {
    match response.status() {
        StatusCode::UNAUTHORIZED => challenges_token(response.headers()),
        StatusCode::OK => is_grpc_unauthenticated(response.headers()),
        _ => false,
    }
}

/// Whether a response demands a proof with the nonce that came along (RFC 9449 §9).
pub(super) fn demands_nonce<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::UNAUTHORIZED
        && dpop::nonce(response.headers()).is_some()
        && response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .any(|value| {
                let field = String::from_utf8_lossy(value.as_bytes());
                Challenges::of(&field).any(|challenge| {
                    challenge.is_about_tokens()
                        && challenge.error.as_deref() == Some(USE_DPOP_NONCE)
                })
            })
}

/// gRPC says it with status 200 (a response without a body carries its trailers as headers).
fn is_grpc_unauthenticated(headers: &HeaderMap) -> bool {
    is_unauthenticated(headers) && is_grpc(headers)
}

/// Whether headers or trailers say `UNAUTHENTICATED`.
pub(super) fn is_unauthenticated(headers: &HeaderMap) -> bool {
    headers
        .get(GRPC_STATUS)
        .is_some_and(|status| status == UNAUTHENTICATED)
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn challenges_token(headers: &HeaderMap) -> bool {
    let mut headers = headers.get_all(WWW_AUTHENTICATE).iter().peekable();
    if headers.peek().is_none() {
        // Many gateways do not say why.
        return true;
    }
    let (mut is_challenged, mut is_about_else) = (false, false);
    for value in headers {
        let field = String::from_utf8_lossy(value.as_bytes());
        for challenge in Challenges::of(&field).filter(Challenge::is_about_tokens) {
            match challenge.error.as_deref() {
                Some("invalid_token") => return true,
                Some(_) => is_about_else = true,
                None => is_challenged = true,
            }
        }
    }
    is_challenged && !is_about_else
}

/// A challenge of RFC 9110 §11.6.1, as far as it concerns access tokens.
#[derive(Debug, PartialEq, Eq)]
struct Challenge<'a> {
    scheme: &'a str,
    error: Option<String>,
}

impl Challenge<'_> {
    fn is_about_tokens(&self) -> bool {
        ["Bearer", "DPoP"]
            .iter()
            .any(|scheme| self.scheme.eq_ignore_ascii_case(scheme))
    }
}

/// The challenges of one field: `scheme [token68 / #auth-param]`, parted by commas, as are the parameters.
struct Challenges<'a>(&'a str);

impl<'a> Challenges<'a> {
    fn of(field: &'a str) -> Self {
        Self(field)
    }

    fn skip_separators(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
    }

    /// Takes a token of RFC 9110 §5.6.2 off the front; empty if there is none.
    fn token(&mut self) -> &'a str {
        let end = self
            .0
            .find(|c: char| !is_token_char(c))
            .unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        token
    }

    /// Takes a parameter `name = value` off the front, if that is what comes.
    fn parameter(&mut self) -> Option<(&'a str, String)> {
        let mut ahead = Self(self.0);
        let name = ahead.token();
        ahead.0 = ahead.0.trim_start_matches([' ', '\t']).strip_prefix('=')?;
        ahead.0 = ahead.0.trim_start_matches([' ', '\t']);
        if name.is_empty() {
            return None;
        }
        let value = match ahead.0.strip_prefix('"') {
            Some(quoted) => {
                ahead.0 = quoted;
                ahead.quoted()
            }
            None => {
                let value = ahead.token().to_owned();
                // The padding of a token68, which looks like a parameter.
                ahead.0 = ahead.0.trim_start_matches('=');
                value
            }
        };
        self.0 = ahead.0;
        Some((name, value))
    }

    /// The rest of a quoted string; one that does not end takes all that is left.
    fn quoted(&mut self) -> String {
        let mut value = String::new();
        let mut chars = self.0.char_indices();
        while let Some((index, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &self.0[index + 1..];
                    return value;
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        self.0 = "";
        value
    }
}

impl<'a> Iterator for Challenges<'a> {
    type Item = Challenge<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_separators();
        let scheme = self.token();
        if scheme.is_empty() {
            // Not of this grammar; what follows cannot be parted from it.
            self.0 = "";
            return None;
        }
        let mut error = None;
        loop {
            self.skip_separators();
            match self.parameter() {
                Some((name, value)) if name.eq_ignore_ascii_case("error") => error = Some(value),
                Some(_) => {}
                None => break,
            }
        }
        Some(Challenge { scheme, error })
    }
}

/// A character of a token (RFC 9110 §5.6.2) or of a token68 (§11.2).
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_responses_refuse_the_token() {
        let none: &[&str] = &[];
        for (status, challenges, expected) in [
            (401, none, true),
            (401, &["Bearer"][..], true),
            (401, &["Bearer realm=\"api\""], true),
            (401, &["Bearer error=\"invalid_token\""], true),
            (
                401,
                &["bEaReR realm=\"a, Basic b\", ERROR = invalid_token"],
                true,
            ),
            (
                401,
                &["Bearer realm=\"a \\\" error=\\\"x\", error=\"invalid_token\""],
                true,
            ),
            (401, &["DPoP algs=\"ES256\", error=\"invalid_token\""], true),
            (
                401,
                &["DPoP error=\"use_dpop_nonce\", error_description=\"x\""],
                false,
            ),
            (401, &["DPoP error=\"invalid_dpop_proof\""], false),
            (401, &["Bearer, DPoP error=\"invalid_dpop_proof\""], false),
            (401, &["DPoP error=\"use_dpop_nonce\"", "Bearer"], false),
            (
                401,
                &["Bearer error=\"insufficient_scope\", DPoP algs=\"ES256\""],
                false,
            ),
            (401, &["Bearer, DPoP algs=\"ES256\""], true),
            (401, &["Bearer error=\"invalid_token\", DPoP"], true),
            (
                401,
                &["Bearer error=\"insufficient_scope\", scope=\"a b\""],
                false,
            ),
            (
                401,
                &["Bearer error=\"insufficient_user_authentication\""],
                false,
            ),
            (401, &["Bearer realm=\"caf\u{e9}\""], true),
            (401, &["Basic realm=\"x\""], false),
            (401, &["Basic realm=\"Bearer\""], false),
            (401, &["Negotiate"], false),
            (
                401,
                &["Negotiate a87421000492aa874209af8bc028==, Bearer"],
                true,
            ),
            (
                401,
                &["Basic realm=\"x\", Bearer error=\"invalid_token\""],
                true,
            ),
            (
                401,
                &["Basic realm=\"x\"", "Bearer error=\"invalid_token\""],
                true,
            ),
            (
                401,
                &[
                    "Bearer error=\"insufficient_scope\"",
                    "DPoP error=\"invalid_token\"",
                ],
                true,
            ),
            (
                401,
                &[", ,Bearer ,realm=\"x\" , error=\"invalid_token\""],
                true,
            ),
            (401, &["Bearer error=\"invalid_token"], true),
            (401, &[""], false),
            (401, &["\"Bearer\""], false),
            (403, &["Bearer error=\"invalid_token\""], false),
            (200, &["Bearer error=\"invalid_token\""], false),
        ] {
            let mut response = Response::builder().status(status);
            for challenge in challenges {
                response = response.header(WWW_AUTHENTICATE, *challenge);
            }
            let response = response.body(()).unwrap();
            assert_eq!(
                refuses_token(&response),
                expected,
                "{status} {challenges:?}"
            );
        }
    }

    #[test]
    fn grpc_says_it_with_status_200() {
        for (content_type, grpc_status, expected) in [
            ("application/grpc", "16", true),
            ("application/grpc+proto", "16", true),
            ("application/grpc", "7", false),
            ("application/grpc", "0", false),
            ("application/json", "16", false),
        ] {
            let response = Response::builder()
                .header(CONTENT_TYPE, content_type)
                .header(GRPC_STATUS, grpc_status)
                .body(())
                .unwrap();
            assert_eq!(
                refuses_token(&response),
                expected,
                "{content_type} {grpc_status}"
            );
        }
    }
}
