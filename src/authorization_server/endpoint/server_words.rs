//! What a server says about a failure: an OAuth error, or an error in the server's own words.

use http::StatusCode;
use serde_json::Value;

use super::{
    ERROR_MEMBERS, JsonObject, error_response,
    own_words::{Words, is_success_word, normalized},
};
use crate::error::{ErrorCode, ErrorResponse};

/// What a response says about a failure.
pub(crate) enum Said {
    /// An error of RFC 6749 §5.2, or one of its codes in another place.
    OauthError(ErrorResponse),
    /// An error in the server's own words.
    Words(String),
    /// A JSON object that no rule recognizes.
    Unknown,
    Nothing,
}

/// Reads the body of a response, whatever its status.
pub(crate) fn read(body: &[u8], status: StatusCode) -> Said {
    // A description in Latin-1, as some servers send it, must not cost the error code.
    let text = String::from_utf8_lossy(body);
    let standard = JsonObject::read(text.as_bytes(), &ERROR_MEMBERS);
    let standard = standard.ok().and_then(|m| error_response(&m.values));
    let standard = standard.filter(|error| !is_success_word(error.code.as_str()));
    let parsed = || serde_json::from_str::<Value>(&text).ok();
    if let Some(error) = standard {
        let is_complete = error.code.is_standard() && error.description.is_some();
        return match (is_complete, parsed()) {
            (false, Some(json)) => of_standard_form(error, &json),
            _ => Said::OauthError(error),
        };
    }
    let Some(json) = parsed() else {
        return Said::Nothing;
    };
    if status.is_success() && !admits_failure(&json) {
        return Said::Nothing;
    }
    let Words { code, message } = Words::find(&json, 0);
    match (code, message) {
        (Some(code), description) if ErrorCode::from(&*code).is_standard() => {
            Said::OauthError(ErrorResponse {
                code: (&*code).into(),
                description: description.map(Into::into),
                uri: None,
            })
        }
        (Some(code), Some(message)) if code != message => {
            Said::Words(format!("{code} ({message})"))
        }
        (Some(words), _) | (None, Some(words)) => Said::Words(words),
        (None, None) if json.as_object().is_some_and(|json| !json.is_empty()) => Said::Unknown,
        (None, None) => Said::Nothing,
    }
}

/// Returns whether the value of `error` beside a token says that there is no error.
pub(crate) fn is_no_error(body: &[u8]) -> bool {
    let json = serde_json::from_slice::<Value>(body);
    json.is_ok_and(|json| json.get("error").is_none_or(says_success))
}

/// Whether a value of a member such as `error` or `code` stands for success.
fn says_success(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is_error) => !is_error,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => is_success_word(text),
        Value::Array(errors) => errors.is_empty(),
        Value::Object(error) => {
            let code = error.iter().find(|(name, _)| normalized(name) == "code");
            error.is_empty() || code.is_some_and(|(_, code)| says_success(code))
        }
    }
}

/// An `error` that is a string. A framework writes the reason phrase of the status there, or any text beside a numeric status.
fn of_standard_form(mut error: ErrorResponse, json: &Value) -> Said {
    let Words { message, .. } = Words::find(json, 0);
    let is_page = error.description.is_none()
        && !error.code.is_standard()
        && ["status", "statusCode", "status_code"]
            .iter()
            .any(|name| json.get(name).is_some_and(is_status));
    let code = error.code.as_str();
    let message = message.filter(|message| *message != code);
    if is_page || (!error.code.is_standard() && is_reason_phrase(code)) {
        return Said::Words(match message {
            Some(message) => format!("{code} ({message})"),
            None => code.to_owned(),
        });
    }
    error.description = error.description.or(message.map(Into::into));
    Said::OauthError(error)
}

fn is_status(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_u64().is_some_and(|n| (100..1000).contains(&n)),
        Value::String(text) => text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    }
}

/// `Unauthorized`, `401 Unauthorized`, `HTTP 401 Unauthorized`.
fn is_reason_phrase(text: &str) -> bool {
    let text = text.strip_prefix("HTTP ").unwrap_or(text);
    let text = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    // An OAuth code is in lower case, and so is `unauthorized` of old servers.
    let is_phrase = |status: u16| {
        let phrase = StatusCode::from_u16(status).ok()?.canonical_reason()?;
        Some(phrase.eq_ignore_ascii_case(text))
    };
    text.contains(|c: char| c.is_ascii_uppercase() || c == ' ')
        && (400..600).filter_map(is_phrase).any(|is_phrase| is_phrase)
}

/// Whether a JSON body with a status of success says that it is an error. Otherwise it may contain anything.
fn admits_failure(json: &Value) -> bool {
    let Value::Object(members) = json else {
        return false;
    };
    members.iter().any(|(name, value)| {
        let name = normalized(name);
        match &*name {
            "ok" | "success" | "issuccess" | "succeeded" => *value == Value::Bool(false),
            "message" | "msg" => value.as_str().is_some_and(|text| !is_success_word(text)),
            "fault" => !says_success(value),
            _ => name.starts_with("err") && !says_success(value),
        }
    })
}
