//! What a server says about a failure: an OAuth error, or an error in the server's own words.

use http::StatusCode;
use serde_json::{Map, Value};

use super::{ERROR_MEMBERS, JsonObject, error_response};
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

/// A longer text is cut before secrets are masked in it.
const MAX: usize = 4000;

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

fn is_success_word(text: &str) -> bool {
    const WORDS: [&str; 9] = [
        "", "0", "false", "no error", "no_error", "none", "null", "ok", "success",
    ];
    WORDS.contains(&&*text.trim().to_ascii_lowercase())
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

/// `error_code`, `errorCode` and `ErrorCode` are the same.
fn normalized(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_ascii_alphanumeric());
    letters.map(|c| c.to_ascii_lowercase()).collect()
}

/// The names of codes, from the most to the least telling.
const CODES: [&str; 11] = [
    "errorcode",
    "errcode",
    "error",
    "code",
    "errortype",
    "type",
    "exception",
    "name",
    "status",
    "tag",
    "title",
];

/// The names of codes that may be numbers.
const NUMBERS: [&str; 6] = ["errorcode", "errcode", "error", "code", "errorid", "status"];

/// The names of members that say what a code is about.
const FIELDS: [&str; 4] = ["resource", "field", "parameter", "param"];

/// The names of messages, from the most to the least telling.
const MESSAGES: [&str; 27] = [
    "errordescription",
    "errormessage",
    "errormessages",
    "errormsg",
    "errmsg",
    "errorsummary",
    "longmessage",
    "message",
    "messages",
    "msg",
    "description",
    "faultstring",
    "detail",
    "details",
    "errordetail",
    "errordetails",
    "developermessage",
    "usermessage",
    "localizedmessage",
    "errorreason",
    "reason",
    "cause",
    "hint",
    "info",
    "title",
    "errors",
    "error",
];

/// The names of members that contain the error.
const CONTAINERS: [&str; 16] = [
    "error",
    "errors",
    "fault",
    "exception",
    "err",
    "errorresponse",
    "errorcauses",
    "detail",
    "details",
    "data",
    "response",
    "result",
    "meta",
    "status",
    "body",
    "errordetails",
];

/// A code and a message, as far as they were found.
#[derive(Default)]
struct Words {
    code: Option<String>,
    message: Option<String>,
}

impl Words {
    fn find(json: &Value, depth: usize) -> Self {
        const MAX_DEPTH: usize = 4;
        match json {
            Value::Array(errors) if depth < MAX_DEPTH => errors
                .iter()
                .map(|error| Self::find(error, depth + 1))
                .find(|words| words.code.is_some() || words.message.is_some())
                .unwrap_or_default(),
            Value::Object(members) if depth < MAX_DEPTH => Self::of_object(members, depth),
            // What an unknown object contains may be anything.
            Value::String(text) if depth > 0 => Self {
                code: None,
                message: printable(text),
            },
            _ => Self::default(),
        }
    }

    fn of_object(members: &Map<String, Value>, depth: usize) -> Self {
        let members: Vec<_> = members
            .iter()
            .map(|(name, value)| (normalized(name), value))
            .collect();
        let all = |names: &'static [&str]| {
            let members = &members;
            names.iter().flat_map(move |name| {
                let named = members.iter().filter(move |(found, _)| found == name);
                named.map(move |(_, value)| (*name, *value))
            })
        };
        let code = all(&CODES)
            .find_map(|(name, value)| Some((name, code_text(value)?)))
            .or_else(|| all(&NUMBERS).find_map(|(name, value)| Some((name, code_number(value)?))));
        let code_name = code.as_ref().map(|(name, _)| *name);
        let field = all(&FIELDS).filter_map(|(_, value)| printable(value.as_str()?));
        let code = code.map(|(_, code)| field.chain([code]).collect::<Vec<_>>().join(" "));
        let messages = all(&MESSAGES).filter(|(name, _)| Some(*name) != code_name);
        let mut words = Self {
            code,
            message: messages.filter_map(|(_, value)| message_text(value)).next(),
        };
        for (name, value) in all(&CONTAINERS) {
            if words.code.is_some() && words.message.is_some() {
                break;
            }
            if !value.is_object() && !value.is_array() {
                continue;
            }
            let mut inner = Self::find(value, depth + 1);
            if inner.code.is_none() && inner.message.is_none() && name == "errors" {
                inner.message = of_fields(value);
            }
            words.code = words.code.or(inner.code);
            words.message = words.message.or(inner.message);
        }
        words
    }
}

/// `{"client_id":["is unknown"]}`
fn of_fields(errors: &Value) -> Option<String> {
    let (field, error) = errors.as_object()?.iter().next()?;
    Some(format!("{field} {}", message_text(error)?))
}

fn code_text(value: &Value) -> Option<String> {
    let text = printable(value.as_str()?)?;
    // `about:blank` and other URIs of RFC 9457 say nothing; a number is taken if there is no text.
    let is_telling = !text.contains("://") && text != "about:blank" && !is_success_word(&text);
    (is_telling && text.parse::<f64>().is_err()).then_some(text)
}

/// A code that is a number. That of a status is known.
fn code_number(value: &Value) -> Option<String> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => printable(text)?,
        _ => return None,
    };
    let number: f64 = text.parse().ok()?;
    (number != 0.0 && !(100.0..600.0).contains(&number)).then_some(text)
}

fn message_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => printable(text).filter(|text| !is_success_word(text)),
        Value::Array(texts) => {
            let texts: Vec<_> = texts
                .iter()
                .filter_map(Value::as_str)
                .filter_map(printable)
                .take(3)
                .collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
        _ => None,
    }
}

fn printable(text: &str) -> Option<String> {
    let text: String = text.trim().chars().take(MAX).collect();
    (!text.is_empty()).then_some(text)
}
