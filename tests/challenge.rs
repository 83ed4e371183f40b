//! `Challenge`: what is read from `WWW-Authenticate`.

use http::{
    HeaderMap, HeaderValue,
    header::{PROXY_AUTHENTICATE, WWW_AUTHENTICATE},
};
use proptest::prelude::*;
use tower_oauth2_client::{Challenge, Scope};

/// Prints challenges as `scheme|token68|name=value|..`.
fn printed(challenges: &[Challenge]) -> Vec<String> {
    let print = |challenge: &Challenge| {
        let mut text = challenge.scheme().to_owned();
        if let Some(token68) = challenge.token68() {
            text += &format!("|{token68}");
        }
        for (name, value) in challenge.parameters() {
            text += &format!("|{name}={value}");
        }
        text
    };
    challenges.iter().map(print).collect()
}

fn headers(fields: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for field in fields {
        let value = HeaderValue::from_bytes(field).unwrap();
        headers.append(WWW_AUTHENTICATE, value);
    }
    headers
}

#[test]
fn challenges_are_read_whatever_their_syntax_is() {
    for (field, expected) in [
        ("", &[][..]),
        (" , ,", &[]),
        ("Bearer", &["Bearer"]),
        ("Bearer realm=\"a\"", &["Bearer|realm=a"]),
        (
            "bearer REALM=a , error = \"b\"",
            &["bearer|REALM=a|error=b"],
        ),
        (
            "Basic realm=\"a, Bearer error=b\", Bearer error=c",
            &["Basic|realm=a, Bearer error=b", "Bearer|error=c"],
        ),
        (
            "Bearer, DPoP algs=\"ES256 PS256\"",
            &["Bearer", "DPoP|algs=ES256 PS256"],
        ),
        ("Bearer ,,DPoP,", &["Bearer", "DPoP"]),
        ("Negotiate", &["Negotiate"]),
        ("Negotiate YII/+a==", &["Negotiate|YII/+a=="]),
        (
            "Negotiate YII+a=, NTLM TlRM, Bearer a=b",
            &["Negotiate|YII+a=", "NTLM|TlRM", "Bearer|a=b"],
        ),
        (
            "Negotiate  a-._~+/0== ,Basic",
            &["Negotiate|a-._~+/0==", "Basic"],
        ),
        ("Bearer a=b==", &["Bearer|a=b"]),
        ("Bearer a=\"\", b=\"c\"", &["Bearer|a=|b=c"]),
        ("Bearer a=\"\\\"\\\\\\b\"", &["Bearer|a=\"\\b"]),
        // Broken syntax.
        ("Bearer a='b, c', d=e", &["Bearer|a=b, c|d=e"]),
        ("Bearer a=b c=d", &["Bearer|a=b|c=d"]),
        ("Bearer a=b; c=d", &["Bearer|a=b|c=d"]),
        ("Bearer,a=b", &["Bearer|a=b"]),
        ("Bearer a=\"b\" DPoP c=d", &["Bearer|a=b", "DPoP|c=d"]),
        ("a=b, Bearer c=d", &["|a=b", "Bearer|c=d"]),
        ("Bearer a=\"b", &["Bearer|a=b"]),
        ("Bearer a=\"b\\", &["Bearer|a=b\\"]),
        ("Bearer a=, b=c", &["Bearer|a=|b=c"]),
        ("Bearer \"a\" b=c", &["Bearer|b=c"]),
        ("Bearer error: a", &["Bearer", "error", "a"]),
        ("Bearer =", &["|Bearer="]),
        ("=", &[]),
        ("\u{e9}\u{1f511}", &[]),
        ("Bearer a=\"\u{e9}\"", &["Bearer|a=\u{e9}"]),
    ] {
        assert_eq!(printed(&Challenge::parse(field)), expected, "{field}");
    }
}

#[test]
fn every_header_is_read() {
    let mut headers = headers(&[
        b"Basic realm=\"a\", Bearer error=\"invalid_token\"",
        b"b=c",
        b"DPoP algs=\"\xff\"",
    ]);
    headers.insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Proxy a=b"));
    assert_eq!(
        printed(&Challenge::all(&headers)),
        [
            "Basic|realm=a",
            "Bearer|error=invalid_token",
            "|b=c",
            "DPoP|algs=\u{fffd}",
        ]
    );
    assert_eq!(Challenge::all(&HeaderMap::new()), []);
}

#[test]
fn known_parameters_have_methods() {
    let read = |field: &str| Challenge::parse(field).remove(0);
    for (field, expected) in [
        ("Bearer", None),
        ("Bearer error=\"\"", None),
        ("Bearer error=\" : \"", Some(":")),
        ("Bearer ERROR=invalid_token", Some("invalid_token")),
        (
            "Bearer error=\"invalid_token, it has expired\"",
            Some("invalid_token"),
        ),
        ("Bearer error=\"a\", error=\"b\"", Some("a")),
        ("Bearer error_description=\"error=a\"", None),
    ] {
        let expected = expected.filter(|it| *it != ":");
        assert_eq!(read(field).error(), expected, "{field}");
    }
    for (field, expected) in [
        ("Bearer", None),
        ("Bearer scope=\"\"", None),
        ("Bearer scope=\"  \"", None),
        ("Bearer scope=a", Some("a")),
        ("Bearer scope=\"b a\"", Some("a b")),
        ("Bearer scope=\"a\u{e9}\"", None),
        ("Bearer scope=\"a\\\"b\"", None),
        ("Bearer scope=\"a\tb\"", None),
    ] {
        assert_eq!(read(field).scope(), expected.map(Scope::from), "{field}");
    }
    let url = "https://api.example/.well-known/oauth-protected-resource/a?b=c,d#e";
    let challenge = read(&format!("BEARER resource_metadata=\"{url}\""));
    assert_eq!(challenge.resource_metadata(), Some(url));
    assert_eq!(challenge.parameter("Resource_Metadata"), Some(url));
    assert_eq!(challenge.parameter("resource"), None);
    assert!(challenge.has_scheme("bearer") && !challenge.has_scheme("Bear"));
}

#[test]
fn debug_escapes_and_shows_no_token68() {
    let challenge = &Challenge::parse("Negotiate SECRETSECRET==")[0];
    assert_eq!(challenge.token68(), Some("SECRETSECRET=="));
    assert!(!format!("{challenge:?}").contains("SECRET"));

    let long = "x".repeat(1000);
    let challenge = &Challenge::parse(&format!("Bearer a=\"\u{202e}\u{7}\", b={long}"))[0];
    let shown = format!("{challenge:?}");
    assert!(shown.is_ascii() && shown.contains("Bearer"), "{shown}");
    assert!(
        !shown.chars().any(char::is_control) && shown.len() < 500,
        "{shown}"
    );
}

#[test]
fn what_is_read_is_limited() {
    assert_eq!(Challenge::parse(&"Bearer,".repeat(2000)).len(), 64);
    let many = format!("Bearer {}", "a=b,".repeat(2000));
    assert_eq!(Challenge::parse(&many)[0].parameters().count(), 64);
    // The next challenge is read after all.
    let many = format!("Bearer {} DPoP c=d", "a=b,".repeat(2000));
    assert_eq!(Challenge::parse(&many)[1].parameter("c"), Some("d"));

    let fill = |len: usize| format!("Bearer a={}", "x".repeat(len - 9));
    assert_eq!(Challenge::parse(&fill(16 * 1024)).len(), 1);
    assert_eq!(Challenge::parse(&fill(16 * 1024 + 1)), []);

    let too_long = fill(16 * 1024 + 1);
    let mut fields = vec![too_long.as_bytes(), b"DPoP"];
    assert_eq!(printed(&Challenge::all(&headers(&fields))), ["DPoP"]);
    fields = vec![b"Bearer"; 100];
    assert_eq!(Challenge::all(&headers(&fields)).len(), 64);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What keeps to the RFC is read as it was written.
    #[test]
    fn well_formed_challenges_are_read_unchanged(
        written in prop::collection::vec(
            (
                "[A-Za-z][A-Za-z0-9-]{0,8}",
                prop_oneof![
                    "[A-Za-z0-9._~+/-]{1,12}={0,2}".prop_map(Ok),
                    prop::collection::vec(
                        ("[a-z_]{1,6}", "\\PC{0,12}|[a-zA-Z =,\"'\\\\]{0,12}"),
                        0..4,
                    )
                    .prop_map(Err),
                ],
            ),
            0..4,
        ),
    ) {
        let mut field = Vec::new();
        for (scheme, content) in &written {
            let content = match content {
                Ok(token68) => token68.clone(),
                Err(parameters) => parameters
                    .iter()
                    .map(|(name, value)| {
                        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                        format!("{name}=\"{value}\"")
                    })
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            field.push(format!("{scheme} {content}").trim_end().to_owned());
        }
        let field = field.join(", ");
        let (read, none) = (Challenge::parse(&field), Vec::new());
        prop_assert_eq!(read.len(), written.len(), "{}", field);
        for (challenge, (scheme, content)) in read.iter().zip(&written) {
            prop_assert_eq!(challenge.scheme(), scheme);
            prop_assert_eq!(challenge.token68(), content.as_deref().ok());
            let parameters: Vec<_> = challenge
                .parameters()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            prop_assert_eq!(&parameters, content.as_ref().err().unwrap_or(&none), "{}", field);
        }
    }

    #[test]
    fn any_text_is_read_within_the_limits(field in "([a-z]{0,3}|error|[=\"', \\\\]|\\PC){0,60}") {
        let read = Challenge::parse(&field);
        prop_assert!(read.len() <= 64);
        for challenge in read {
            prop_assert!(field.contains(challenge.scheme()));
            prop_assert!(challenge.token68().is_none_or(|it| field.contains(it)));
            let _ = (format!("{challenge:?}"), challenge.error(), challenge.scope());
        }
    }
}
