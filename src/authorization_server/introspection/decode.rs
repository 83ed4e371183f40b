//! From the body of a response to the state of a token. What cannot be understood is an error, never an active token.

use serde_json::{Map, Value};

use super::call::IntrospectionCall;
use crate::{
    authorization_server::endpoint::{BadAnswer, compact_jwt, members_except},
    error::Answer,
    message::json_time,
};

/// What a server says about a token.
#[derive(Debug)]
pub(super) enum State {
    /// Whether the token is active, and all members.
    Json(bool, Map<String, Value>),
    /// A JWT, of which nothing has been verified.
    Jwt(Box<str>),
}

/// Reads a successful response.
pub(super) fn state(answer: &Answer, wants_jwt: bool) -> Result<State, BadAnswer> {
    match (compact_jwt(answer), wants_jwt) {
        (Some(jwt), true) => return Ok(State::Jwt(jwt.into())),
        (Some(_), false) => return Err(unusable(NOT_REQUESTED)),
        (None, _) => {}
    }
    let (members, unreadable) = members_except::<IntrospectionCall>(answer)?;
    let is_active = match members.get("active") {
        Some(Value::Bool(is_active)) => *is_active,
        Some(_) => return Err(unusable("returned an `active` that is not a boolean")),
        None => {
            let what = "returned no `active`";
            return Err(BadAnswer::refusal::<IntrospectionCall>(answer, what));
        }
    };
    // Whoever wants a signature must not be content without one.
    if wants_jwt {
        return Err(unusable(NOT_SIGNED));
    }
    if is_active {
        check_types(&members, &unreadable)?;
    }
    Ok(State::Json(is_active, members))
}

fn unusable(what: &str) -> BadAnswer {
    BadAnswer::unusable::<IntrospectionCall>(what)
}

const NOT_REQUESTED: &str =
    "returned a JWT that was not requested; request it with `IntrospectionRequest::jwt_response`";
const NOT_SIGNED: &str = "returned a JSON object, but a JWT was requested (RFC 9701 section 5)";

/// The standard members (RFC 7662 §2.2), and what the token is bound to (RFC 8705 §3.2, RFC 9449 §6.2). They decide what the token may be
/// used for, by whom, and for how long.
const STANDARD: [&str; 12] = [
    "aud",
    "client_id",
    "cnf",
    "exp",
    "iat",
    "iss",
    "jti",
    "nbf",
    "scope",
    "sub",
    "token_type",
    "username",
];

/// Checks the types of the standard members. `unreadable` are the names of others that the response contained.
fn check_types(members: &Map<String, Value>, unreadable: &[String]) -> Result<(), BadAnswer> {
    // A member that was left out would not restrict the token.
    if let Some(name) = unreadable.iter().find(|name| STANDARD.contains(&&***name)) {
        let what = format!("returned a `{name}` with a number that is too large");
        return Err(unusable(&what));
    }
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let is_valid = match &**name {
            "client_id" | "username" | "token_type" | "sub" | "iss" | "jti" => value.is_string(),
            "exp" | "iat" | "nbf" => json_time(value).is_some(),
            "scope" | "aud" => is_text_or_list(value),
            _ => true,
        };
        if !is_valid {
            let what = format!("returned a `{name}` of a type that RFC 7662 does not allow");
            return Err(unusable(&what));
        }
    }
    Ok(())
}

fn is_text_or_list(value: &Value) -> bool {
    let is_list = |values: &Vec<Value>| values.iter().all(Value::is_string);
    value.is_string() || value.as_array().is_some_and(is_list)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderMap, StatusCode};

    use super::*;

    fn read(body: &str, wants_jwt: bool) -> Result<State, String> {
        let answer = || {
            let body = body.to_owned();
            Answer::new(StatusCode::OK, HeaderMap::new(), body.into())
        };
        let now = SystemTime::UNIX_EPOCH;
        state(&answer(), wants_jwt).map_err(|bad| bad.into_error(answer(), now).to_string())
    }

    #[test]
    fn only_true_is_active() {
        for (body, expected) in [
            (r#"{"active":true}"#, Ok(true)),
            (r#"{"active":false}"#, Ok(false)),
            (r#"{"active":true,"x":1e400}"#, Ok(true)),
            (r#"{"active":true,"error":null}"#, Ok(true)),
            // Nothing else about an inactive token matters.
            (r#"{"active":false,"exp":"soon","aud":7}"#, Ok(false)),
            ("\u{feff}{\"active\":true}", Ok(true)),
            (r#"{"active":"true"}"#, Err("not a boolean")),
            (r#"{"active":"false"}"#, Err("not a boolean")),
            (r#"{"active":1}"#, Err("not a boolean")),
            (r#"{"active":0}"#, Err("not a boolean")),
            (r#"{"active":null}"#, Err("not a boolean")),
            (r#"{"active":{}}"#, Err("not a boolean")),
            (r#"{"active":[true]}"#, Err("not a boolean")),
            (r#"{"active":1e400}"#, Err("no `active`")),
            (r#"{"Active":true}"#, Err("no `active`")),
            ("{}", Err("no `active`")),
            (r#"{"token":{"active":true}}"#, Err("no `active`")),
            (r#"{"active":false,"active":true}"#, Err("`active` twice")),
            (
                r#"{"active":true,"scope":"a","sc\u006fpe":"b"}"#,
                Err("`scope` twice"),
            ),
            (
                r#"{"active":true,"tenant":"a","tenant":"b"}"#,
                Err("`tenant` twice"),
            ),
            (
                r#"{"active":true,"error":"invalid_client"}"#,
                Err("does not accept the client"),
            ),
            (
                r#"{"error":"invalid_client"}"#,
                Err("does not accept the client"),
            ),
            ("true", Err("other than a JSON object")),
            (r#"[{"active":true}]"#, Err("other than a JSON object")),
            (r#""active""#, Err("other than a JSON object")),
            ("active=true", Err("other than a JSON object")),
            ("", Err("an empty body")),
            ("<html>active</html>", Err("a page")),
            (r#"{"active":true"#, Err("ends too early")),
            (r#"{"active":true}}"#, Err("is broken")),
            ("e30.e30.c2ln", Err("was not requested")),
        ] {
            match (read(body, false), expected) {
                (Ok(State::Json(is_active, _)), Ok(expected)) => {
                    assert_eq!(is_active, expected, "{body}");
                }
                (Err(error), Err(expected)) => {
                    assert!(error.contains(expected), "{body}: {error}");
                }
                (result, _) => panic!("{body}: {result:?}"),
            }
        }
    }

    #[test]
    fn standard_members_of_an_active_token_have_their_types() {
        for (member, is_good) in [
            (r#""scope":"a b""#, true),
            (r#""scope":["a","b"]"#, true),
            (r#""scope":null"#, true),
            (r#""scope":7"#, false),
            (r#""scope":["a",7]"#, false),
            (r#""aud":"a""#, true),
            (r#""aud":["a","b"]"#, true),
            (r#""aud":[]"#, true),
            (r#""aud":{"a":1}"#, false),
            (r#""aud":true"#, false),
            (r#""exp":1419356238"#, true),
            (r#""exp":"1419356238""#, true),
            (r#""exp":0"#, true),
            (r#""exp":null"#, true),
            (r#""exp":"soon""#, false),
            // Too large for any type, so that the member cannot be read.
            (r#""exp":1e400"#, false),
            (r#""nbf":1e400"#, false),
            (r#""aud":["a",1e400]"#, false),
            (r#""scope":["a",1e400]"#, false),
            (r#""cnf":{"jkt":"x","n":1e400}"#, false),
            (r#""other":1e400"#, true),
            (r#""exp":"""#, false),
            (r#""exp":"NaN""#, false),
            (r#""exp":[1]"#, false),
            (r#""nbf":{}"#, false),
            (r#""iat":true"#, false),
            (r#""sub":7"#, false),
            (r#""client_id":["a"]"#, false),
            (r#""username":{}"#, false),
            (r#""iss":false"#, false),
            (r#""jti":1"#, false),
            (r#""token_type":["Bearer"]"#, false),
            (r#""cnf":{"jkt":"x"}"#, true),
            (r#""other":[1,{"a":null}]"#, true),
        ] {
            let result = read(&format!(r#"{{"active":true,{member}}}"#), false);
            assert_eq!(result.is_ok(), is_good, "{member}: {result:?}");
        }
    }

    #[test]
    fn a_requested_jwt_is_required_and_not_read() {
        for (body, expected) in [
            ("e30.e30.c2ln", Ok(())),
            ("e30..aXY.Y2lw.dGFn", Ok(())),
            (r#"{"active":true}"#, Err("a JWT was requested")),
            (r#"{"active":false}"#, Err("a JWT was requested")),
            (r#"{"error":"invalid_client"}"#, Err("the client")),
            ("e30.e30", Err("other than a JSON object")),
            ("", Err("an empty body")),
        ] {
            match (read(body, true), expected) {
                (Ok(State::Jwt(jwt)), Ok(())) => assert_eq!(&*jwt, body),
                (Err(error), Err(expected)) => {
                    assert!(error.contains(expected), "{body}: {error}");
                }
                (result, _) => panic!("{body}: {result:?}"),
            }
        }
    }
}
