//! `ClientIdMetadataDocument`: a client whose id is the URL of its metadata.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use http::Uri;
use serde_json::Value;

use super::{
    client_metadata::{ClientMetadata, InvalidClientMetadata},
    registered_client::{RegisteredClient, invalid},
    registration_response::AUTH_METHOD,
};
#[cfg(feature = "jwt")]
use crate::jwt::Signer;
use crate::{
    base::{Quoted, secure_uri::Protection},
    client_authentication::ClientAuthentication,
};

/// The metadata document of a client whose id is the URL of this document
/// ([OAuth Client ID Metadata Document](https://datatracker.ietf.org/doc/draft-ietf-oauth-client-id-metadata-document/)).
///
/// Such a client need not be registered: you publish the document at the URL, and the authorization server fetches it. A server that
/// supports this says so in its metadata:
/// [`ServerMetadata::client_id_metadata_document_supported`](crate::ServerMetadata::client_id_metadata_document_supported).
///
/// `Display` prints the document as JSON. Serve it at exactly this URL, with the status 200 and the content type `application/json`, and
/// without a redirect.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{ClientIdMetadataDocument, ClientMetadata};
///
/// let metadata = ClientMetadata::new()
///     .client_name("My CLI")
///     .redirect_uri("http://127.0.0.1/callback");
/// let document = ClientIdMetadataDocument::new("https://cli.example/oauth-client.json", metadata)?;
/// println!("{document}"); // publish this
///
/// let client = document.client_authentication()?;
/// assert_eq!(client.client_id(), "https://cli.example/oauth-client.json");
/// # Ok::<_, tower_oauth2_client::InvalidClientMetadata>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdMetadataDocument {
    client_id: String,
    json: Value,
}

impl ClientIdMetadataDocument {
    /// Creates the document of the client with this URL.
    ///
    /// It takes the URL as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. Servers compare its text as it is. A
    /// client without a [`token_endpoint_auth_method`](ClientMetadata::token_endpoint_auth_method) does not authenticate: its method becomes
    /// `none`.
    ///
    /// # Errors
    ///
    /// 1. The URL is not `https`, or it contains a user name, a fragment or a `.` or `..` in its path, or it has no path. Or URL parsers
    ///    would rewrite it: it contains upper case in the host, the port 443, or a character that RFC 3986 does not allow.
    /// 2. The client authenticates with a secret, or the metadata contains a secret: everybody can read the document.
    /// 3. The client authenticates with a key (`private_key_jwt`, `self_signed_tls_client_auth`), but the metadata contains neither
    ///    [`jwk`](ClientMetadata::jwk) nor [`jwks_uri`](ClientMetadata::jwks_uri).
    /// 4. The client uses redirects (the grant `authorization_code`, which is also the default), but the metadata contains no
    ///    [`redirect_uri`](ClientMetadata::redirect_uri).
    /// 5. The metadata contains another `client_id`, or is [invalid](ClientMetadata).
    pub fn new(
        client_id: impl fmt::Display,
        metadata: ClientMetadata,
    ) -> Result<Self, InvalidClientMetadata> {
        let client_id = client_id.to_string();
        check_client_id(&client_id).map_err(|why| {
            InvalidClientMetadata(format!("the client id of a metadata document {why}"))
        })?;
        metadata.check().map_err(InvalidClientMetadata)?;
        check_metadata(&metadata, &client_id)?;
        let mut members = metadata.members().clone();
        members.insert("client_id".into(), client_id.as_str().into());
        members.entry(AUTH_METHOD).or_insert_with(|| NONE.into());
        let json = Value::Object(members);
        Ok(Self { client_id, json })
    }

    /// Returns the client id, which is the URL of the document.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Returns the document, a JSON object.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// Returns how the client authenticates, for a [`TokenEndpoint`](crate::TokenEndpoint).
    ///
    /// # Errors
    ///
    /// If the method is `private_key_jwt`, for which there is `ClientIdMetadataDocument::private_key_jwt`, or one that this crate does not
    /// know.
    pub fn client_authentication(&self) -> Result<ClientAuthentication, InvalidClientMetadata> {
        self.registered().authentication()
    }

    /// Returns how the client authenticates with its private key.
    ///
    /// # Errors
    ///
    /// If the document names another method than `private_key_jwt`, or a `jwks` without the public key of the signer.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{
    ///     ClientIdMetadataDocument, ClientMetadata,
    ///     jwt::{SigningAlgorithm, SigningKey},
    /// };
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key = SigningKey::generate(SigningAlgorithm::ES256)?.kid("2026-11");
    /// let metadata = ClientMetadata::new()
    ///     .grant_type("client_credentials")
    ///     .token_endpoint_auth_method("private_key_jwt")
    ///     .jwk(key.public_jwk());
    /// let document = ClientIdMetadataDocument::new("https://orders.example/client.json", metadata)?;
    /// let client = document.private_key_jwt(key)?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn private_key_jwt(
        &self,
        signer: impl Signer + 'static,
    ) -> Result<ClientAuthentication, InvalidClientMetadata> {
        self.registered().private_key_jwt(signer)
    }

    fn registered(&self) -> RegisteredClient<'_> {
        let method = self.json.get(AUTH_METHOD).and_then(Value::as_str);
        RegisteredClient {
            client_id: &self.client_id,
            method: method.unwrap_or(NONE),
            secret: None,
            algorithm: None,
            jwks: self.json.get("jwks"),
        }
    }
}

const NONE: &str = "none";

/// Checks the URL of a document.
///
/// # Errors
///
/// What is wrong: the rest of a sentence.
fn check_client_id(client_id: &str) -> Result<(), &'static str> {
    // A `Uri` drops the fragment.
    if client_id.contains('#') {
        return Err("has a fragment");
    }
    let uri: Uri = client_id.parse().map_err(|_| "is not a URL")?;
    if let Protection::Unusable(why) = Protection::of(&uri) {
        return Err(match why.starts_with("contains a user name") {
            true => "contains a user name or a password",
            false => "is not an absolute https URL",
        });
    }
    if uri.scheme_str() != Some("https") || !client_id.starts_with("https://") {
        return Err("is not an absolute https URL");
    }
    // To a `Uri`, an empty path is a slash.
    let after_scheme = &client_id["https://".len()..];
    let host_and_path = after_scheme.split('?').next().unwrap_or_default();
    let Some((host, path)) = host_and_path.split_once('/') else {
        return Err("has no path");
    };
    let query = after_scheme.strip_prefix(host_and_path);
    if !is_normal_host(host) || !is_normal(path, "") || !is_normal(query.unwrap_or_default(), "'") {
        return Err(REWRITTEN);
    }
    // URL parsers remove these, also in their escaped form, so the server would fetch another URL.
    let is_dots = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    };
    match path.split('/').any(is_dots) {
        true => Err("has `.` or `..` in its path"),
        false => Ok(()),
    }
}

/// Whether no URL parser writes a host with a port in another way.
fn is_normal_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_normal_port = |port: &str| {
        port != "443"
            && port
                .parse::<u16>()
                .is_ok_and(|number| number.to_string() == port)
    };
    // A host whose last label is a number is an IPv4 address, in many notations.
    let last_label = host.strip_suffix('.').unwrap_or(host).rsplit('.').next();
    let is_number = last_label.is_some_and(|label| {
        let digits = label.strip_prefix("0x");
        label.bytes().all(|byte| byte.is_ascii_digit())
            || digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    let is_normal_name = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address
            .parse::<Ipv6Addr>()
            .is_ok_and(|parsed| parsed.to_ipv4().is_none() && parsed.to_string() == address),
        None if is_number => host.parse::<Ipv4Addr>().is_ok(),
        None => host.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte)
        }),
    };
    is_normal_name && port.is_none_or(is_normal_port)
}

/// Whether a path or a query contains only characters of RFC 3986 §3.3 and §3.4, which no URL parser escapes. `special` are escaped.
fn is_normal(text: &str, special: &str) -> bool {
    text.bytes().all(|byte| {
        byte.is_ascii_alphanumeric()
            || (b"-._~!$&'()*+,;=:@/?%".contains(&byte) && !special.as_bytes().contains(&byte))
    })
}

const REWRITTEN: &str = "is not in its normal form, so that programs rewrite it; write the host in lower case, leave out the port 443, \
                         and percent-encode all characters that RFC 3986 does not allow";

fn check_metadata(metadata: &ClientMetadata, client_id: &str) -> Result<(), InvalidClientMetadata> {
    if metadata.get("client_id").is_some_and(|id| id != client_id) {
        return Err(invalid(
            "the metadata contains another `client_id` than the URL of the document",
        ));
    }
    for name in [
        "client_secret",
        "client_secret_expires_at",
        "registration_access_token",
    ] {
        if metadata.get(name).is_some() {
            return Err(InvalidClientMetadata(format!(
                "the metadata contains `{name}`, but everybody can read the document"
            )));
        }
    }
    let method = metadata.text(AUTH_METHOD).unwrap_or(NONE);
    if method.starts_with("client_secret_") {
        return Err(InvalidClientMetadata(format!(
            "`{}` needs a secret that the server knows, but a document cannot contain a secret; use `private_key_jwt` or `none`",
            Quoted(method)
        )));
    }
    let has_keys = metadata.get("jwks").is_some() || metadata.get("jwks_uri").is_some();
    if matches!(method, "private_key_jwt" | "self_signed_tls_client_auth") && !has_keys {
        return Err(InvalidClientMetadata(format!(
            "`{method}` needs the client's public key: set `jwk` or `jwks_uri`"
        )));
    }
    let uses_redirects = match metadata.get("grant_types").and_then(Value::as_array) {
        Some(grants) => grants
            .iter()
            .any(|grant| grant == "authorization_code" || grant == "implicit"),
        None => true,
    };
    let redirect_uris = metadata.get("redirect_uris").and_then(Value::as_array);
    let has_redirects = redirect_uris.is_some_and(|uris| !uris.is_empty());
    // The statement may contain them.
    if uses_redirects && !has_redirects && metadata.get("software_statement").is_none() {
        return Err(invalid(
            "the metadata contains no redirect URI, but the grant `authorization_code` needs one; \
             set `redirect_uri`, or the grants that the client uses with `grant_type`",
        ));
    }
    Ok(())
}

/// Prints the document as JSON.
impl fmt::Display for ClientIdMetadataDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.json)
    }
}

impl fmt::Debug for ClientIdMetadataDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdMetadataDocument")
            .field("client_id", &Quoted(&self.client_id))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_client_id_follows_the_rules_of_the_draft() {
        for (client_id, expected) in [
            ("https://a.example/client", Ok(())),
            ("https://a.example/", Ok(())),
            ("https://a.example:8443/c?v=1", Ok(())),
            ("https://a.example/a..b/.well-known/c.json", Ok(())),
            ("https://a.example/c?x=/../y", Ok(())),
            (
                "https://xn--bcher-kva.example/%C3%BC;a=b,c~_-!$&'()*+:@",
                Ok(()),
            ),
            ("https://192.0.2.1/c", Ok(())),
            ("https://a.example", Err("has no path")),
            // Everything that a URL parser writes in another way.
            ("https://A.example/c", Err(REWRITTEN)),
            ("https://a.example:443/c", Err(REWRITTEN)),
            ("https://a.example:0443/c", Err(REWRITTEN)),
            ("https://a.example:08443/c", Err(REWRITTEN)),
            ("https://a.example:/c", Err(REWRITTEN)),
            ("https://a.example/b\\c", Err(REWRITTEN)),
            ("https://a.example/\"c\"", Err(REWRITTEN)),
            ("https://a.example/{c}", Err(REWRITTEN)),
            ("https://a.example/\u{fc}", Err(REWRITTEN)),
            ("https://a.example/c?q='x'", Err(REWRITTEN)),
            ("https://a.example?x=/y", Err("has no path")),
            ("http://a.example/c", Err("is not an absolute https URL")),
            ("http://localhost/c", Err("is not an absolute https URL")),
            ("HTTPS://a.example/c", Err("is not an absolute https URL")),
            ("ftp://a.example/c", Err("is not an absolute https URL")),
            ("a.example/c", Err("is not a URL")),
            ("/c", Err("is not an absolute https URL")),
            ("", Err("is not a URL")),
            ("https://", Err("is not a URL")),
            ("https:///c", Err("is not a URL")),
            ("https://a.example/c d", Err("is not a URL")),
            ("https://a.example/c#f", Err("has a fragment")),
            ("https://a.example/c#", Err("has a fragment")),
            (
                "https://u@a.example/c",
                Err("contains a user name or a password"),
            ),
            (
                "https://u:p@a.example/c",
                Err("contains a user name or a password"),
            ),
            ("https://a.example/./c", Err("has `.` or `..` in its path")),
            (
                "https://a.example/b/../c",
                Err("has `.` or `..` in its path"),
            ),
            ("https://a.example/..", Err("has `.` or `..` in its path")),
            (
                "https://a.example/%2E%2e/c",
                Err("has `.` or `..` in its path"),
            ),
            (
                "https://a.example/.%2e/c",
                Err("has `.` or `..` in its path"),
            ),
        ] {
            assert_eq!(check_client_id(client_id), expected, "{client_id}");
        }
    }

    /// The server compares the client id with the text in the document, and fetches the URL.
    #[test]
    fn no_url_parser_rewrites_a_client_id() {
        let check = |client_id: &str| {
            if check_client_id(client_id).is_ok() {
                let parsed = url::Url::parse(client_id).map(String::from);
                assert_eq!(parsed.as_deref(), Ok(client_id));
            }
        };
        let usual = "https://a-b.example:8443/c/d?e=f";
        assert_eq!(check_client_id(usual), Ok(()));
        for at in (0..=usual.len()).filter(|at| usual.is_char_boundary(*at)) {
            for character in (0..=0x17f).filter_map(char::from_u32) {
                let (before, after) = usual.split_at(at);
                check(&format!("{before}{character}{after}"));
                let rest = after.chars().next().map_or("", |c| &after[c.len_utf8()..]);
                check(&format!("{before}{character}{rest}"));
            }
        }
        for host in [
            "127.1",
            "1.2.3",
            "1",
            "0x7f.0.0.1",
            "0x1",
            "01.2.3.4",
            "1.2.3.4",
            "1.2.3.4.",
            "1.2.3.256",
            "a.1",
            "a.0x",
            "a.0xg",
            "a.1b",
            "a.example.",
            "[::1]",
            "[0:0::1]",
            "[::FFFF:1.2.3.4]",
            "[::ffff:102:304]",
            "[2001:DB8::1]",
            "[2001:db8::1]",
            "a%2eb",
            "a_b",
        ] {
            for port in ["", ":", ":443", ":0443", ":8443", ":08443", ":80", ":0"] {
                check(&format!("https://{host}{port}/c"));
            }
        }
    }

    #[test]
    fn the_metadata_follow_the_rules_of_the_draft() {
        let new = || ClientMetadata::new().redirect_uri("https://a.example/cb");
        let machine = || ClientMetadata::new().grant_type("client_credentials");
        for (metadata, why) in [
            (new(), None),
            (machine(), None),
            (
                ClientMetadata::new().software_statement("e30.e30.c2ln"),
                None,
            ),
            (new().member("client_id", "https://a.example/c"), None),
            (new().token_endpoint_auth_method("none"), None),
            (new().token_endpoint_auth_method("tls_client_auth"), None),
            (
                new()
                    .token_endpoint_auth_method("private_key_jwt")
                    .jwks_uri("https://a.example/jwks"),
                None,
            ),
            (
                new()
                    .token_endpoint_auth_method("self_signed_tls_client_auth")
                    .jwk(json!({ "kty": "EC" })),
                None,
            ),
            (
                new().token_endpoint_auth_method("private_key_jwt"),
                Some("public key"),
            ),
            (
                new().token_endpoint_auth_method("self_signed_tls_client_auth"),
                Some("public key"),
            ),
            (
                new().token_endpoint_auth_method("client_secret_basic"),
                Some("needs a secret"),
            ),
            (
                new().token_endpoint_auth_method("client_secret_post"),
                Some("needs a secret"),
            ),
            (
                new().token_endpoint_auth_method("client_secret_jwt"),
                Some("needs a secret"),
            ),
            (
                new().member("client_secret", "SECRET"),
                Some("everybody can read"),
            ),
            (
                new().member("registration_access_token", "SECRET"),
                Some("everybody can read"),
            ),
            (
                new().member("client_secret_expires_at", 0),
                Some("everybody can read"),
            ),
            (
                new().member("client_id", "https://a.example/C"),
                Some("another `client_id`"),
            ),
            (
                new().jwk(json!({ "kty": "EC", "d": "SECRET" })),
                Some("a private key"),
            ),
            (ClientMetadata::new(), Some("no redirect URI")),
            (
                machine().grant_type("authorization_code"),
                Some("no redirect URI"),
            ),
            (
                ClientMetadata::new().member("redirect_uris", json!([])),
                Some("no redirect URI"),
            ),
        ] {
            let document = ClientIdMetadataDocument::new("https://a.example/c", metadata);
            match (&document, why) {
                (Ok(document), None) => {
                    assert_eq!(document.json()["client_id"], "https://a.example/c");
                    assert!(document.json()[AUTH_METHOD].is_string());
                }
                (Err(error), Some(why)) => {
                    let shown = format!("{error} {error:?}");
                    assert!(shown.contains(why) && !shown.contains("SECRET"), "{shown}");
                }
                _ => panic!("{document:?} {why:?}"),
            }
        }
    }

    #[test]
    fn the_document_is_printed_as_json() {
        let metadata = ClientMetadata::new().redirect_uri("a:b").client_name("A");
        let document = ClientIdMetadataDocument::new("https://a.example/c", metadata).unwrap();
        let printed: Value = serde_json::from_str(&document.to_string()).unwrap();
        assert_eq!(
            printed,
            json!({
                "client_id": "https://a.example/c", "client_name": "A", "redirect_uris": ["a:b"],
                "token_endpoint_auth_method": "none",
            })
        );
        let client = document.client_authentication().unwrap();
        assert_eq!(format!("{client:?}"), r#"none("https://a.example/c")"#);
    }
}
