//! From the body of a response to the codes of a device login. Pure.

use super::call::DeviceAuthorizationCall as Call;
use crate::{
    authorization_server::{
        endpoint::{BadAnswer, ERROR_MEMBERS, JsonObject, JsonValue, is_no_error},
        polling::times,
    },
    base::is_printable,
    error::Answer,
    message::DeviceFields,
};

/// The members of RFC 8628 §3.2 and RFC 6749 §5.2, and `verification_url` of an early draft.
const MEMBERS: [&str; 8] = [
    ERROR_MEMBERS[0],
    "device_code",
    "user_code",
    "verification_uri",
    "verification_url",
    "verification_uri_complete",
    "expires_in",
    "interval",
];

/// Reads the codes that a successful response carries.
pub(super) fn fields(answer: &Answer) -> Result<DeviceFields, BadAnswer> {
    let unusable = |what: &str| BadAnswer::unusable::<Call>(what);
    let object = JsonObject::read(answer.text(), &MEMBERS)
        .map_err(|error| BadAnswer::unparsed::<Call>(answer, &error))?;
    let [
        error,
        device_code,
        user_code,
        verification_uri,
        verification_url,
        verification_uri_complete,
        expires_in,
        interval,
    ] = object.values;
    if !error.says_none() && !is_no_error(answer.text()) {
        let what = "returned an error with a status of success";
        return Err(BadAnswer::refusal::<Call>(answer, what));
    }
    if let Some(name) = object.repeated {
        return Err(unusable(&format!("returned the member `{name}` twice")));
    }
    let device_code = match device_code {
        JsonValue::Text(code) if !code.is_empty() => code.into_owned().into(),
        _ => {
            return Err(BadAnswer::refusal::<Call>(
                answer,
                "returned no `device_code`",
            ));
        }
    };
    let user_code = match &user_code {
        JsonValue::Text(code) if !code.trim_ascii().is_empty() => code.trim_ascii(),
        _ => return Err(unusable("returned no `user_code`")),
    };
    if !is_printable(user_code) {
        return Err(unusable(
            "returned a `user_code` with an invisible character",
        ));
    }
    let verification_uri = [&verification_uri, &verification_url]
        .into_iter()
        .find_map(JsonValue::as_text)
        .ok_or_else(|| unusable("returned no `verification_uri`"))?;
    Ok(DeviceFields {
        device_code,
        user_code: user_code.into(),
        verification_uri: web_uri(verification_uri).ok_or_else(|| {
            unusable("returned a `verification_uri` that is no https or http URI")
        })?,
        verification_uri_complete: verification_uri_complete.as_text().and_then(web_uri),
        times: times(&expires_in, &interval),
    })
}

/// Returns the URI of a page that can be shown to a user and opened in a browser.
///
/// A URI without a scheme is one that people type, so it gets `https`. One of another scheme (`file:`, `javascript:`) could do anything
/// where a program opens it.
fn web_uri(text: &str) -> Option<Box<str>> {
    let text = text.trim_ascii();
    if !is_printable(text) || text.contains(' ') {
        return None;
    }
    let host_and_more = |scheme: &str| {
        let begin = text.get(..scheme.len())?;
        let rest = &text[scheme.len()..];
        begin.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    match host_and_more("https://").or_else(|| host_and_more("http://")) {
        Some(rest) => begins_with_a_host(rest).then(|| text.into()),
        None => {
            let (host, _) = text.split_once(['/', '?', '#']).unwrap_or((text, ""));
            let is_web = begins_with_a_host(text) && host.contains('.') && !host.contains(':');
            is_web.then(|| format!("https://{text}").into())
        }
    }
}

fn begins_with_a_host(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '[')
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    #[test]
    fn only_uris_of_web_pages_are_accepted() {
        for (text, expected) in [
            (
                "https://as.example/device",
                Some("https://as.example/device"),
            ),
            (
                "HTTPS://AS.example/Device",
                Some("HTTPS://AS.example/Device"),
            ),
            ("http://127.0.0.1:8080/d", Some("http://127.0.0.1:8080/d")),
            ("http://[::1]/d", Some("http://[::1]/d")),
            (" https://as.example ", Some("https://as.example")),
            (
                "https://as.example/start/#/device?a=b",
                Some("https://as.example/start/#/device?a=b"),
            ),
            ("https://bücher.example/d", Some("https://bücher.example/d")),
            ("as.example/device", Some("https://as.example/device")),
            ("as.example", Some("https://as.example")),
            ("as.example?code=a:b", Some("https://as.example?code=a:b")),
            ("", None),
            (" ", None),
            ("https://", None),
            ("https:///device", None),
            ("https://-x", None),
            ("/device", None),
            ("//as.example/device", None),
            ("-as.example", None),
            ("device", None),
            ("javascript:alert(1)", None),
            ("file:///etc/passwd", None),
            ("ftp://as.example/", None),
            ("calc.exe:x", None),
            ("a.b:c@as.example", None),
            ("https://as.example/a b", None),
            ("https://as.example/\u{1b}[2J", None),
            ("https://as.example/\u{202e}ecived", None),
            ("https://as.example/\n", Some("https://as.example/")),
            ("https://as.example/\nx", None),
            ("é", None),
        ] {
            assert_eq!(web_uri(text).as_deref(), expected, "{text:?}");
        }
    }

    fn read(body: &str) -> Result<DeviceFields, BadAnswer> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        fields(&Answer::new(StatusCode::OK, HeaderMap::new(), body))
    }

    #[test]
    fn the_name_of_an_early_draft_counts_if_the_other_one_is_missing() {
        for (members, expected) in [
            (
                r#""verification_uri":"https://a.example""#,
                "https://a.example",
            ),
            (
                r#""verification_url":"https://b.example""#,
                "https://b.example",
            ),
            (
                r#""verification_url":"https://b.example","verification_uri":"https://a.example""#,
                "https://a.example",
            ),
            (
                r#""verification_url":"https://b.example","verification_uri":null"#,
                "https://b.example",
            ),
        ] {
            let body = format!(r#"{{"device_code":"d","user_code":" u-1 ",{members}}}"#);
            let fields = read(&body).ok().unwrap();
            assert_eq!(&*fields.verification_uri, expected);
            assert_eq!(&*fields.user_code, "u-1");
            assert_eq!(fields.verification_uri_complete, None);
        }
    }

    #[test]
    fn a_complete_uri_that_cannot_be_opened_is_left_out() {
        for (complete, expected) in [
            (r#""https://a.example?c=u""#, Some("https://a.example?c=u")),
            (r#""javascript:alert(1)""#, None),
            ("7", None),
            ("null", None),
        ] {
            let body = format!(
                r#"{{"device_code":"d","user_code":"u","verification_uri":"https://a.example","verification_uri_complete":{complete}}}"#
            );
            let fields = read(&body).ok().unwrap();
            assert_eq!(fields.verification_uri_complete.as_deref(), expected);
        }
    }
}
