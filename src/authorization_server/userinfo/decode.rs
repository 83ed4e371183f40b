//! From the body of a response to claims about a user. Claims about another user than the expected one are an error.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::call::UserinfoCall;
use crate::{
    authorization_server::{
        endpoint::{BadAnswer, compact_jwt, members},
        metadata::{RawMembers, first_repeated},
    },
    error::Answer,
};

/// What a server says about a user.
#[derive(Debug)]
pub(super) enum User {
    Claims(Map<String, Value>),
    /// A JWT, of which nothing has been verified.
    Jwt(Box<str>),
}

/// Reads a successful response. `expected` is the subject of the ID token.
pub(super) fn user(answer: &Answer, expected: Option<&str>) -> Result<User, BadAnswer> {
    if let Some(jwt) = compact_jwt(answer) {
        if let Some(expected) = expected {
            let subject = subject_of(jwt).ok_or_else(|| unusable(UNREADABLE))?;
            check(&subject, expected)?;
        }
        return Ok(User::Jwt(jwt.into()));
    }
    let claims = members::<UserinfoCall>(answer)?;
    match claims.get("sub") {
        Some(Value::String(subject)) if !subject.is_empty() => {
            check(subject, expected.unwrap_or(subject))?;
        }
        Some(Value::String(_)) => return Err(unusable("returned an empty `sub`")),
        Some(Value::Null) | None => {
            let what = "returned no `sub`, which every response must contain (OpenID Connect Core section 5.3.2)";
            return Err(BadAnswer::refusal::<UserinfoCall>(answer, what));
        }
        Some(_) => return Err(unusable("returned a `sub` that is not a string")),
    }
    Ok(User::Claims(claims))
}

fn check(subject: &str, expected: &str) -> Result<(), BadAnswer> {
    match subject == expected {
        true => Ok(()),
        false => Err(unusable(ANOTHER)),
    }
}

const ANOTHER: &str = "returned claims about another subject than that of the ID token; do not use them, because the access token may have \
                       been replaced by another user's (OpenID Connect Core section 5.3.2)";
const UNREADABLE: &str = "returned a JWT whose subject cannot be read, so that it cannot be compared with that of the ID token; \
                          leave out `UserinfoRequest::subject`, and compare it after you have decrypted the JWT";

/// The subject that a signed JWT names, without verifying the signature.
fn subject_of(jwt: &str) -> Option<String> {
    let mut parts = jwt.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    let RawMembers(members) = serde_json::from_slice(&payload).ok()?;
    if first_repeated(&members, |_| true).is_some() {
        return None;
    }
    let (_, subject) = members.iter().find(|(name, _)| name == "sub")?;
    serde_json::from_str(subject.get()).ok()
}

fn unusable(what: &str) -> BadAnswer {
    BadAnswer::unusable::<UserinfoCall>(what)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderMap, StatusCode};

    use super::*;

    fn read(body: &str, expected: Option<&str>) -> Result<User, String> {
        let answer = || {
            let body = body.to_owned();
            Answer::new(StatusCode::OK, HeaderMap::new(), body.into())
        };
        let now = SystemTime::UNIX_EPOCH;
        user(&answer(), expected).map_err(|bad| bad.into_error(answer(), now).to_string())
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn claims_need_the_expected_subject() {
        for (body, expected, result) in [
            (r#"{"sub":"u1"}"#, None, Ok(())),
            (r#"{"sub":"u1"}"#, Some("u1"), Ok(())),
            (r#"{"sub":"u1","email":7}"#, Some("u1"), Ok(())),
            (r#"{"sub":"u\u0031"}"#, Some("u1"), Ok(())),
            (r#"{"sub":"u2"}"#, Some("u1"), Err("another subject")),
            (r#"{"sub":"U1"}"#, Some("u1"), Err("another subject")),
            (r#"{"sub":"u1 "}"#, Some("u1"), Err("another subject")),
            (r#"{"name":"u1"}"#, Some("u1"), Err("no `sub`")),
            (r#"{"name":"u1"}"#, None, Err("no `sub`")),
            (r#"{"sub":null}"#, None, Err("no `sub`")),
            (r#"{"sub":""}"#, None, Err("an empty `sub`")),
            (r#"{"sub":1}"#, None, Err("not a string")),
            (r#"{"sub":["u1"]}"#, Some("u1"), Err("not a string")),
            (r#"{"sub":"u2","sub":"u1"}"#, Some("u1"), Err("`sub` twice")),
            (r#"{"error":"invalid_token"}"#, None, Err("does not accept")),
            (
                r#"{"sub":"u1","error":"invalid_token"}"#,
                None,
                Err("does not accept"),
            ),
            ("[]", None, Err("other than a JSON object")),
            ("\"u1\"", None, Err("other than a JSON object")),
            ("", None, Err("an empty body")),
            ("<html>", None, Err("a page")),
            (r#"{"sub":"u1""#, None, Err("ends too early")),
        ] {
            match (read(body, expected), result) {
                (Ok(User::Claims(claims)), Ok(())) => assert_eq!(claims["sub"], "u1"),
                (Err(error), Err(expected)) => {
                    assert!(error.contains(expected), "{body}: {error}");
                    assert!(!error.contains("u1"), "{error}");
                }
                (result, _) => panic!("{body}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_subject_of_a_jwt_is_compared_too() {
        let encrypted = "e30..aXY.Y2lw.dGFn".to_owned();
        for (body, expected, result) in [
            (jwt(r#"{"sub":"u1"}"#), None, Ok(())),
            (jwt(r#"{"sub":"u1"}"#), Some("u1"), Ok(())),
            (jwt(r#"{"sub":"u2"}"#), Some("u1"), Err("another subject")),
            (jwt(r#"{"sub":1}"#), Some("u1"), Err("cannot be read")),
            (
                jwt(r#"{"sub":"u2","sub":"u1"}"#),
                Some("u1"),
                Err("cannot be read"),
            ),
            (jwt("{}"), Some("u1"), Err("cannot be read")),
            (jwt("u1"), Some("u1"), Err("cannot be read")),
            (jwt("{}"), None, Ok(())),
            (encrypted.clone(), None, Ok(())),
            (encrypted, Some("u1"), Err("cannot be read")),
        ] {
            match (read(&body, expected), result) {
                (Ok(User::Jwt(jwt)), Ok(())) => assert_eq!(*jwt, *body),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (result, _) => panic!("{body}: {result:?}"),
            }
        }
    }
}
