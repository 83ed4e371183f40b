//! The code and the message in an error that has no standard form.

use serde_json::{Map, Value};

/// A longer text is cut before secrets are masked in it.
const MAX: usize = 4000;

/// `error_code`, `errorCode` and `ErrorCode` are the same.
pub(super) fn normalized(name: &str) -> String {
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
pub(super) struct Words {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}

impl Words {
    /// Finds them in an object, in a list of objects, or in what is nested in those.
    pub(super) fn find(json: &Value, depth: usize) -> Self {
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

/// Whether a code or a message says that nothing is wrong.
pub(super) fn is_success_word(text: &str) -> bool {
    const WORDS: [&str; 9] = [
        "", "0", "false", "no error", "no_error", "none", "null", "ok", "success",
    ];
    WORDS.contains(&&*text.trim().to_ascii_lowercase())
}
