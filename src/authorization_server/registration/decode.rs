//! From the body of a response to a registered client.
//!
//! The client is registered already, so only what the client cannot do without is checked: an error would lose it.

use serde_json::{Map, Value};

use super::call::RegistrationCall;
use crate::{
    authorization_server::endpoint::{BadAnswer, members},
    error::Answer,
    message::{AUTH_METHOD, ClientMetadata, IssuedClient},
};

/// Reads a successful response to the request to register `requested`.
///
/// The members name the client authentication method that was requested, if the server names none.
pub(super) fn registered(
    answer: &Answer,
    requested: &ClientMetadata,
) -> Result<(IssuedClient, Map<String, Value>), BadAnswer> {
    let mut members = members::<RegistrationCall>(answer)?;
    let client = IssuedClient::of(&members).map_err(|what| {
        BadAnswer::refusal::<RegistrationCall>(answer, &format!("returned {what}"))
    })?;
    let is_named = members.get(AUTH_METHOD).is_some_and(Value::is_string);
    if let Some(method) = requested.get(AUTH_METHOD).filter(|_| !is_named) {
        members.insert(AUTH_METHOD.into(), method.clone());
    }
    Ok((client, members))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::message::RegistrationResponse;

    fn read(body: &str, requested_method: Option<&str>) -> Result<RegistrationResponse, String> {
        let answer = || {
            let body = body.to_owned();
            Answer::new(StatusCode::CREATED, HeaderMap::new(), body.into())
        };
        let mut metadata = ClientMetadata::new();
        if let Some(method) = requested_method {
            metadata = metadata.token_endpoint_auth_method(method);
        }
        match registered(&answer(), &metadata) {
            Ok((client, members)) => Ok(RegistrationResponse::new(client, members, answer())),
            Err(bad) => Err(bad.into_error(answer(), SystemTime::UNIX_EPOCH).to_string()),
        }
    }

    #[test]
    fn only_the_id_and_the_secret_must_be_right() {
        for (body, expected) in [
            (r#"{"client_id":"c"}"#, Ok(())),
            (r#"{"client_id":"c","client_secret":null}"#, Ok(())),
            (r#"{"client_id":"c","client_secret":""}"#, Ok(())),
            (
                r#"{"client_id":"c","client_secret":"SECRET","client_secret_expires_at":"soon","redirect_uris":7,"x":1e400}"#,
                Ok(()),
            ),
            (r#"{"client_secret":"SECRET"}"#, Err("no `client_id`")),
            (
                r#"{"client_id":null,"client_secret":"SECRET"}"#,
                Err("no `client_id`"),
            ),
            (r#"{"client_id":""}"#, Err("an empty `client_id`")),
            (
                r#"{"client_id":7}"#,
                Err("a `client_id` that is not a string"),
            ),
            (
                r#"{"client_id":"c","client_secret":["SECRET"]}"#,
                Err("a `client_secret` that is not a string"),
            ),
            (
                r#"{"client_id":"c","client_id":"d","client_secret":"SECRET"}"#,
                Err("`client_id` twice"),
            ),
            (
                r#"{"error":"invalid_redirect_uri"}"#,
                Err("a redirect URI of the client"),
            ),
            (
                r#"{"client_id":"c","error":"invalid_client_metadata"}"#,
                Err("the metadata of the client"),
            ),
            (r#"{"client_id":"SECRET"#, Err("ends too early")),
            ("[]", Err("other than a JSON object")),
            ("", Err("an empty body")),
            ("<html>", Err("a page")),
            ("e30.e30.c2ln", Err("other than a JSON object")),
        ] {
            match (read(body, None), expected) {
                (Ok(registered), Ok(())) => {
                    assert_eq!(registered.client_id(), "c");
                    let shown = format!("{registered:?} {registered:#?}");
                    assert!(!shown.contains("SECRET"), "{shown}");
                }
                (Err(error), Err(expected)) => {
                    assert!(error.contains(expected), "{body}: {error}");
                    assert!(!error.contains("SECRET"), "{error}");
                }
                (result, _) => panic!("{body}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_method_is_the_registered_one_or_else_the_requested_one() {
        for (body, requested, expected) in [
            (
                r#"{"client_id":"c","token_endpoint_auth_method":"client_secret_post"}"#,
                Some("none"),
                "client_secret_post",
            ),
            (
                r#"{"client_id":"c","client_secret":"s"}"#,
                Some("none"),
                "none",
            ),
            (
                r#"{"client_id":"c"}"#,
                Some("private_key_jwt"),
                "private_key_jwt",
            ),
            (
                r#"{"client_id":"c","token_endpoint_auth_method":null}"#,
                Some("private_key_jwt"),
                "private_key_jwt",
            ),
            (
                r#"{"client_id":"c","token_endpoint_auth_method":7,"client_secret":"s"}"#,
                None,
                "client_secret_basic",
            ),
            (
                r#"{"client_id":"c","client_secret":"s"}"#,
                None,
                "client_secret_basic",
            ),
            (r#"{"client_id":"c"}"#, None, "none"),
            (r#"{"client_id":"c","client_secret":""}"#, None, "none"),
        ] {
            let registered = read(body, requested).unwrap();
            assert_eq!(registered.token_endpoint_auth_method(), expected, "{body}");
            let stored = RegistrationResponse::from_json(registered.json().clone()).unwrap();
            assert_eq!(stored.token_endpoint_auth_method(), expected, "{body}");
        }
    }
}
