//! Reads the body of a success that is a JSON object or a JWT.

use serde_json::{Map, Value};

use super::{BadAnswer, EndpointCall, is_no_error};
use crate::{
    authorization_server::metadata::{RawMembers, first_repeated},
    base::Quoted,
    error::Answer,
};

/// Returns the members of the JSON object in a success. A number that is too large for any type is left out, and does not fail the rest.
///
/// # Errors
///
/// If the body is anything else, names an error, or contains a member twice: programs disagree about which value counts.
pub(crate) fn members<C: EndpointCall>(answer: &Answer) -> Result<Map<String, Value>, BadAnswer> {
    members_except::<C>(answer).map(|(members, _)| members)
}

/// Returns the [`members`], and the names of those that contain a number that is too large.
///
/// # Errors
///
/// The same as of [`members`].
pub(crate) fn members_except<C: EndpointCall>(
    answer: &Answer,
) -> Result<(Map<String, Value>, Vec<String>), BadAnswer> {
    let RawMembers(members) = serde_json::from_slice(answer.text())
        .map_err(|error| BadAnswer::unparsed::<C>(answer, &error))?;
    if let Some(name) = first_repeated(&members, |_| true) {
        let what = format!("returned the member `{}` twice", Quoted(name));
        return Err(BadAnswer::unusable::<C>(what));
    }
    let (mut read, mut unreadable) = (Map::new(), Vec::new());
    for (name, value) in members {
        match serde_json::from_str(value.get()) {
            Ok(value) => drop(read.insert(name, value)),
            Err(_) => unreadable.push(name),
        }
    }
    if read.contains_key("error") && !is_no_error(answer.text()) {
        let what = "returned an error with a status of success";
        return Err(BadAnswer::refusal::<C>(answer, what));
    }
    Ok((read, unreadable))
}

/// Returns the body if it has the form of a signed or an encrypted JWT (RFC 7515 §3.1, RFC 7516 §3.1). Nothing of it is verified.
pub(crate) fn compact_jwt(answer: &Answer) -> Option<&str> {
    let text = std::str::from_utf8(answer.text()).ok()?.trim_ascii();
    let is_base64url = |part: &str| {
        let mut bytes = part.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let count = text.split('.').count();
    let has_form = matches!(count, 3 | 5) && !text.starts_with('.');
    (has_form && text.split('.').all(is_base64url)).then_some(text)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    #[test]
    fn a_jwt_is_recognized_by_its_form() {
        for (body, expected) in [
            ("e30.e30.c2ln", Some("e30.e30.c2ln")),
            ("\u{feff}\n e30.e30.c2ln\r\n", Some("e30.e30.c2ln")),
            ("e30.e30.", Some("e30.e30.")),
            ("e30..aXY.Y2lw.dGFn", Some("e30..aXY.Y2lw.dGFn")),
            ("", None),
            ("..", None),
            (".e30.c2ln", None),
            ("e30.e30", None),
            ("e30.e30.c2ln.x", None),
            ("e30.e30.c2ln=", None),
            ("e30.e 30.c2ln", None),
            ("\"e30.e30.c2ln\"", None),
            ("{\"sub\":\"a.b.c\"}", None),
            ("e30.e30.\u{e9}", None),
        ] {
            let answer = Answer::new(StatusCode::OK, HeaderMap::new(), body.into());
            assert_eq!(compact_jwt(&answer), expected, "{body:?}");
        }
    }
}
