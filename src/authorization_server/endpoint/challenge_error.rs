//! The error in the challenges of a response (RFC 6750 §3, RFC 9449 §7.1).

use http::HeaderMap;

use crate::{
    error::{ErrorCode, ErrorResponse},
    message::Challenge,
};

/// Returns the first error that a challenge names. A demand for a nonce comes before all others, because it can be met.
pub(super) fn read(headers: &HeaderMap) -> Option<ErrorResponse> {
    let challenges = Challenge::all(headers);
    let mut errors: Vec<_> = challenges.iter().filter_map(error_of).collect();
    let is_demand = |error: &ErrorResponse| *error.code() == ErrorCode::USE_DPOP_NONCE;
    let first = errors.iter().position(is_demand).unwrap_or_default();
    (!errors.is_empty()).then(|| errors.swap_remove(first))
}

fn error_of(challenge: &Challenge) -> Option<ErrorResponse> {
    let code = challenge.error().filter(|code| !code.is_empty())?;
    Some(ErrorResponse {
        code: ErrorCode::from(code),
        description: challenge.parameter("error_description").map(Into::into),
        uri: challenge.parameter("error_uri").map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::WWW_AUTHENTICATE};

    use super::*;

    #[test]
    fn the_error_is_that_of_the_challenge() {
        for (fields, expected) in [
            (&[][..], None),
            (&["Bearer"], None),
            (&["Bearer realm=\"x\""], None),
            (&["Bearer error=\"\""], None),
            (&["Bearer error=\"invalid_token\""], Some("invalid_token")),
            (
                &["Bearer error=\"invalid_token\", error_description=\"it has expired\""],
                Some("invalid_token (it has expired)"),
            ),
            (
                &["Bearer realm=x", "DPoP error=\"invalid_token\""],
                Some("invalid_token"),
            ),
            (
                &["Bearer error=\"invalid_token\", DPoP error=\"use_dpop_nonce\""],
                Some("use_dpop_nonce"),
            ),
            (
                &[
                    "Bearer error=\"invalid_token\"",
                    "DPoP error=\"invalid_dpop_proof\"",
                ],
                Some("invalid_token"),
            ),
            (&["Bearer realm=\"error=invalid_token\""], None),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(field));
            }
            let error = read(&headers).map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_field_that_is_too_long_is_not_read() {
        let field = format!("Bearer error=a, x={}", "x".repeat(16 * 1024));
        let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, field.parse().unwrap())]);
        assert!(read(&headers).is_none());
    }
}
