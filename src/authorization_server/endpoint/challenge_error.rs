//! The error in the challenges of a response (RFC 6750 §3, RFC 9449 §7.1).

use http::{HeaderMap, header::WWW_AUTHENTICATE};

use crate::{
    add_access_token::Challenge,
    error::{ErrorCode, ErrorResponse},
};

/// A longer field is not read.
const MAX_FIELD: usize = 16 * 1024;

/// Returns the first error that a challenge names. A demand for a nonce comes before all others, because it can be met.
pub(super) fn read(headers: &HeaderMap) -> Option<ErrorResponse> {
    let fields = headers.get_all(WWW_AUTHENTICATE).into_iter();
    let fields = fields.filter(|field| field.len() <= MAX_FIELD);
    let errors = fields.flat_map(|field| {
        let field = String::from_utf8_lossy(field.as_bytes());
        let challenges = Challenge::all_of(&field);
        let errors = challenges.iter().filter_map(error_of);
        errors.collect::<Vec<_>>()
    });
    let mut errors = errors.collect::<Vec<_>>().into_iter();
    let is_demand = |error: &ErrorResponse| *error.code() == ErrorCode::USE_DPOP_NONCE;
    let demand = errors.as_slice().iter().position(is_demand);
    errors.nth(demand.unwrap_or_default())
}

fn error_of(challenge: &Challenge<'_>) -> Option<ErrorResponse> {
    let code = challenge.get("error").filter(|code| !code.is_empty())?;
    Some(ErrorResponse {
        code: ErrorCode::from(&*code),
        description: challenge.get("error_description").map(Into::into),
        uri: challenge.get("error_uri").map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

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
        let field = format!("Bearer error=a, x={}", "x".repeat(MAX_FIELD));
        let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, field.parse().unwrap())]);
        assert!(read(&headers).is_none());
    }
}
