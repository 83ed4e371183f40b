//! Decides whether a response refuses the access token. Pure.

use http::{
    HeaderMap, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE},
};

use super::{
    headers,
    www_authenticate::{Challenge, Challenges},
};
use crate::dpop::{self, USE_DPOP_NONCE};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const UNAUTHENTICATED: &[u8] = b"16";

/// Rules out most responses cheaply.
#[inline]
pub(super) fn may_refuse_token<B>(response: &Response<B>) -> bool {
    match response.status() {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::OK => headers::contains(response.headers(), &GRPC_STATUS),
        _ => false,
    }
}

/// What a response objects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// It refuses the access token.
    Token,
    /// The response demands a proof that contains the nonce in its header.
    Nonce,
}

/// What a response objects to in its request.
pub(super) fn objection<B>(response: &Response<B>, had_proof: bool) -> Option<Objection> {
    // The demand counts first: a server that accepts both kinds of tokens may add that it saw no bearer token.
    if had_proof && demands_nonce(response) {
        Some(Objection::Nonce)
    } else if refuses_token(response) {
        Some(Objection::Token)
    } else {
        None
    }
}

fn refuses_token<B>(response: &Response<B>) -> bool {
    match response.status() {
        StatusCode::UNAUTHORIZED => challenges_token(response.headers()),
        StatusCode::OK => is_grpc_unauthenticated(response.headers()),
        _ => false,
    }
}

/// Whether a response demands a proof with the nonce that it carries (RFC 9449 §9).
fn demands_nonce<B>(response: &Response<B>) -> bool {
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

/// A gRPC response has status 200 even if it refuses the token. Without a body it carries its trailers as headers.
fn is_grpc_unauthenticated(headers: &HeaderMap) -> bool {
    is_unauthenticated(headers) && is_grpc(headers)
}

/// Whether headers or trailers have the gRPC status `UNAUTHENTICATED`.
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

/// Whether the challenges of a 401 refuse the token.
///
/// An error other than `invalid_token` is about something that a new token would not change. A server that accepts both kinds of
/// tokens names both schemes, one of them without an error; then the error beside the other one counts.
fn challenges_token(headers: &HeaderMap) -> bool {
    let mut headers = headers.get_all(WWW_AUTHENTICATE).iter().peekable();
    if headers.peek().is_none() {
        // Many gateways send a 401 without a challenge.
        return true;
    }
    let (mut is_challenged, mut has_other_error) = (false, false);
    for value in headers {
        let field = String::from_utf8_lossy(value.as_bytes());
        for challenge in Challenges::of(&field).filter(Challenge::is_about_tokens) {
            match challenge.error.as_deref() {
                Some("invalid_token") => return true,
                Some(_) => has_other_error = true,
                None => is_challenged = true,
            }
        }
    }
    is_challenged && !has_other_error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_401_refuses_the_token_unless_another_error_explains_it() {
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
    fn grpc_status_16_refuses_the_token() {
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
