//! `ClientMetadata`: what a client says about itself.

use std::{error::Error, fmt};

use serde_json::{Map, Value, json};

use super::{
    form::printable_names,
    scope::{self, Scope},
};
use crate::base::Quoted;

/// What a client says about itself when it registers
/// ([RFC 7591 §2](https://www.rfc-editor.org/rfc/rfc7591#section-2)).
///
/// It is what a [`RegistrationRequest`](crate::RegistrationRequest) sends, and what a
/// [`ClientIdMetadataDocument`](crate::ClientIdMetadataDocument) contains. The server chooses the value of each member that is not set;
/// the RFC names the defaults. [`member`](Self::member) sets any other member, and members in a language, such as `client_name#de`
/// ([§2.2](https://www.rfc-editor.org/rfc/rfc7591#section-2.2)).
///
/// Building never fails. What is invalid is reported where the metadata is used, before anything is sent or published: a member that is
/// set twice with different values, a redirect URI with a fragment, `jwks` beside `jwks_uri`, or a private key in `jwks`.
///
/// # Security
///
/// `Debug` shows the names of the members only.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::ClientMetadata;
///
/// let metadata = ClientMetadata::new()
///     .client_name("Orders")
///     .redirect_uri("https://orders.example/callback")
///     .token_endpoint_auth_method("client_secret_basic")
///     .scope("orders:read")
///     .member("application_type", "web");
/// assert_eq!(metadata.get("client_name").unwrap(), "Orders");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientMetadata {
    members: Map<String, Value>,
    /// What the first invalid setter call was.
    invalid: Option<String>,
}

/// Defines a setter for each member that is a text.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        impl ClientMetadata {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(self, value: impl Into<String>) -> Self {
                    self.member(stringify!($name), value.into())
                }
            )*
        }
    };
}

/// Defines a setter for each member that is a list of texts.
macro_rules! lists {
    ($($(#[$doc:meta])* $setter:ident = $name:literal,)*) => {
        impl ClientMetadata {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $setter(mut self, value: impl fmt::Display) -> Self {
                    let value = Value::String(value.to_string());
                    match self.members.entry($name).or_insert_with(|| json!([])) {
                        Value::Array(values) => {
                            if !values.contains(&value) {
                                values.push(value);
                            }
                        }
                        _ => self.refuse(twice($name)),
                    }
                    self
                }
            )*
        }
    };
}

impl ClientMetadata {
    /// Creates metadata without any member.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets any member. If it is set already to another value, the metadata is invalid.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientMetadata;
    ///
    /// let metadata = ClientMetadata::new()
    ///     .member("dpop_bound_access_tokens", true)
    ///     .member("client_name#de", "Bestellungen");
    /// ```
    #[must_use]
    pub fn member(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let (name, value) = (name.into(), value.into());
        match self.members.get(&name) {
            _ if name.is_empty() => self.refuse("the name of a member is empty".into()),
            Some(earlier) if *earlier != value => self.refuse(twice(&name)),
            _ => {
                self.members.insert(name, value);
            }
        }
        self
    }

    /// Adds words to the scope that the client may request. Default is none.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<Scope>) -> Self {
        let scope = scope.into();
        if let Err(error) = scope.check() {
            self.refuse(error.to_string());
        }
        let earlier = self.members.get("scope").and_then(Value::as_str);
        let words = scope::union(earlier.unwrap_or_default(), scope.as_str());
        self.members.insert("scope".into(), words.into());
        self
    }

    /// Adds a public key of the client, as a JWK. Default is none.
    ///
    /// The server verifies client assertions (`private_key_jwt`) with it. The keys become the member `jwks`. A private key is refused: it
    /// would be shown to the server, or to everybody. The feature `jwt` has `SigningKey::public_jwk`, which returns such a JWK.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{
    ///     ClientMetadata,
    ///     jwt::{SigningAlgorithm, SigningKey},
    /// };
    ///
    /// let key = SigningKey::generate(SigningAlgorithm::ES256)?.kid("2026-11");
    /// let metadata = ClientMetadata::new()
    ///     .token_endpoint_auth_method("private_key_jwt")
    ///     .jwk(key.public_jwk());
    /// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
    /// ```
    #[must_use]
    pub fn jwk(mut self, public_jwk: impl Into<Value>) -> Self {
        let jwks = self.members.entry("jwks");
        let jwks = jwks.or_insert_with(|| json!({ "keys": [] }));
        match jwks.get_mut("keys") {
            Some(Value::Array(keys)) => keys.push(public_jwk.into()),
            _ => self.refuse(twice("jwks")),
        }
        self
    }

    /// Returns a member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    pub(crate) fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    fn refuse(&mut self, why: String) {
        self.invalid.get_or_insert(why);
    }

    /// Whether the value of a member is certainly no secret. Any other may be one, such as a software statement.
    pub(crate) fn is_public(name: &str) -> bool {
        const OTHERS: [&str; 7] = [
            "application_type",
            "id_token_signed_response_alg",
            "subject_type",
            "tls_client_auth_san_dns",
            "tls_client_auth_san_uri",
            "tls_client_auth_subject_dn",
            "token_endpoint_auth_signing_alg",
        ];
        TEXTS.contains(&name) || OTHERS.contains(&name) || name.starts_with("client_name#")
    }

    /// Checks what every use of the metadata requires.
    ///
    /// # Errors
    ///
    /// What is wrong, as a sentence. It contains no value.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(why) = &self.invalid {
            return Err(why.clone());
        }
        for name in TEXTS {
            if self.get(name).is_some_and(|value| !value.is_string()) {
                return Err(format!("the member `{name}` is not a string"));
            }
        }
        if let Some(uris) = self.get("redirect_uris") {
            let uris = uris.as_array().ok_or("`redirect_uris` is not a list")?;
            uris.iter().try_for_each(check_redirect_uri)?;
        }
        if let Some(jwks) = self.get("jwks") {
            if self.get("jwks_uri").is_some() {
                return Err(
                    "`jwks` and `jwks_uri` are both set, which RFC 7591 section 2 forbids".into(),
                );
            }
            check_public_keys(jwks)?;
        }
        Ok(())
    }
}

/// The members with a setter of their own that are texts and no secrets.
const TEXTS: [&str; 10] = [
    "client_name",
    "client_uri",
    "jwks_uri",
    "logo_uri",
    "policy_uri",
    "scope",
    "software_id",
    "software_version",
    "token_endpoint_auth_method",
    "tos_uri",
];

texts! {
    /// Sets how the client authenticates at the token endpoint: a [registered method](https://www.iana.org/assignments/oauth-parameters/oauth-parameters.xhtml#token-endpoint-auth-method) such as `client_secret_basic`, `private_key_jwt` or `none`. Default is none.
    ///
    /// Without it, a server registers `client_secret_basic` ([RFC 7591 §2](https://www.rfc-editor.org/rfc/rfc7591#section-2)). A client that cannot keep a secret sets `none`.
    token_endpoint_auth_method,
    /// Sets the name of the client, for people. Default is none.
    client_name,
    /// Sets the URL of a page about the client. Default is none.
    client_uri,
    /// Sets the URL of the client's logo. Default is none.
    logo_uri,
    /// Sets the URL of the terms of service. Default is none.
    tos_uri,
    /// Sets the URL of the privacy policy. Default is none.
    policy_uri,
    /// Sets the URL of the client's public keys, a JWK set. Default is none. Excludes [`jwk`](ClientMetadata::jwk).
    jwks_uri,
    /// Sets the id of the software, which is the same for all its instances and versions. Default is none.
    software_id,
    /// Sets the version of the software. Default is none.
    software_version,
    /// Sets a JWT in which someone whom the server trusts vouches for the metadata ([RFC 7591 §2.3](https://www.rfc-editor.org/rfc/rfc7591#section-2.3)). Default is none.
    software_statement,
}

lists! {
    /// Adds a URI to which the server may send a user back. Default is none.
    ///
    /// It takes the URI as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. The text is not changed: servers compare it with that in the authorization request.
    #[doc(alias = "redirect_uris")]
    redirect_uri = "redirect_uris",
    /// Adds a grant type that the client will use. Default is none, which means `authorization_code`.
    #[doc(alias = "grant_types")]
    grant_type = "grant_types",
    /// Adds a response type that the client will use. Default is none, which means `code`.
    #[doc(alias = "response_types")]
    response_type = "response_types",
    /// Adds a way to reach the people responsible for the client, usually an e-mail address. Default is none.
    #[doc(alias = "contacts")]
    contact = "contacts",
}

fn twice(name: &str) -> String {
    format!(
        "the member `{}` is set twice with different values",
        Quoted(name)
    )
}

/// A redirect URI is absolute and has no fragment (RFC 6749 §3.1.2). Its scheme may be that of an app (RFC 8252 §7.1).
fn check_redirect_uri(uri: &Value) -> Result<(), String> {
    let why = match uri.as_str() {
        None => "is not a string",
        Some(uri) if uri.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            "contains white space"
        }
        Some(uri) if uri.contains('#') => "has a fragment, which RFC 6749 section 3.1.2 forbids",
        Some(uri) if !has_scheme(uri) => "is not absolute; give its scheme",
        Some(_) => return Ok(()),
    };
    Err(format!("a redirect URI {why}"))
}

fn has_scheme(uri: &str) -> bool {
    let is_scheme_char = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    uri.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(is_scheme_char)
            && !rest.is_empty()
    })
}

/// The members of a JWK that only a private or a secret key has (RFC 7518 §6.2.2, §6.3.2 and §6.4.1; `priv` of ML-DSA keys).
const PRIVATE: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

fn check_public_keys(jwks: &Value) -> Result<(), String> {
    let keys = jwks.get("keys").and_then(Value::as_array);
    let keys = keys.ok_or("`jwks` is not a JWK set: an object with the list `keys`")?;
    for key in keys {
        let key = key.as_object().ok_or("a key in `jwks` is not an object")?;
        if PRIVATE.iter().any(|name| key.contains_key(*name)) {
            return Err("`jwks` contains a private key; set the public one".into());
        }
    }
    Ok(())
}

impl fmt::Debug for ClientMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.members.keys().map(String::as_str);
        f.debug_tuple("ClientMetadata")
            .field(&printable_names(names))
            .finish()
    }
}

/// The error for metadata that a client cannot have, or cannot authenticate by.
///
/// `Display` and `Debug` show no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidClientMetadata(pub(super) String);

impl fmt::Display for InvalidClientMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for InvalidClientMetadata {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_metadata_is_named_and_no_value_is_shown() {
        let new = ClientMetadata::new;
        for (metadata, why) in [
            (new(), None),
            (new().redirect_uri("https://SECRET.example/cb?a=b"), None),
            (new().redirect_uri("com.example.app:/cb"), None),
            (new().redirect_uri("urn:ietf:wg:oauth:2.0:oob"), None),
            (new().redirect_uri("http://127.0.0.1/cb"), None),
            (new().redirect_uri("/SECRET"), Some("is not absolute")),
            (new().redirect_uri(""), Some("is not absolute")),
            (new().redirect_uri("1a:/SECRET"), Some("is not absolute")),
            (new().redirect_uri("https:"), Some("is not absolute")),
            (
                new().redirect_uri("https://a.example/SECRET#x"),
                Some("has a fragment"),
            ),
            (
                new().redirect_uri("https://a.example/SECRET "),
                Some("white space"),
            ),
            (
                new().redirect_uri("https://a.example/\nSECRET"),
                Some("white space"),
            ),
            (
                new().member("redirect_uris", "https://SECRET.example"),
                Some("`redirect_uris` is not a list"),
            ),
            (
                new().member("redirect_uris", json!([1])),
                Some("is not a string"),
            ),
            (
                new().client_name("SECRET").client_name("b"),
                Some("`client_name` is set twice"),
            ),
            (new().client_name("SECRET").client_name("SECRET"), None),
            (
                new().member("grant_types", "SECRET").grant_type("b"),
                Some("`grant_types` is set twice"),
            ),
            (new().member("", "SECRET"), Some("the name of a member")),
            (
                new().member("jwks_uri", json!(["SECRET"])),
                Some("`jwks_uri` is not a string"),
            ),
            (new().scope("a \"SECRET"), Some("a scope cannot contain")),
            (new().jwk(json!({ "kty": "EC", "x": "SECRET" })), None),
            (
                new().jwk(json!({})).jwks_uri("https://SECRET.example"),
                Some("are both set"),
            ),
            (
                new().jwk(json!({ "kty": "EC", "d": "SECRET" })),
                Some("a private key"),
            ),
            (
                new().jwk(json!({ "kty": "oct", "k": "SECRET" })),
                Some("a private key"),
            ),
            (
                new().jwk(json!({ "kty": "RSA", "qi": "SECRET" })),
                Some("a private key"),
            ),
            (
                new().jwk(json!({ "kty": "AKP", "priv": "SECRET" })),
                Some("a private key"),
            ),
            (new().jwk("SECRET"), Some("is not an object")),
            (
                new().member("jwks", json!({ "keys": "SECRET" })),
                Some("is not a JWK set"),
            ),
            (
                new().member("jwks", json!(["SECRET"])),
                Some("is not a JWK set"),
            ),
            (
                new().member("jwks", json!([])).jwk(json!({})),
                Some("`jwks` is set twice"),
            ),
            (
                new().member("jwks", json!({ "keys": 1 })).jwk(json!({})),
                Some("`jwks` is set twice"),
            ),
        ] {
            let checked = metadata.check();
            match (&checked, why) {
                (Ok(()), None) => {}
                (Err(error), Some(why)) => assert!(error.contains(why), "{error}"),
                _ => panic!("{checked:?} {why:?}"),
            }
            let shown = format!("{checked:?} {metadata:?} {metadata:#?}");
            assert!(!shown.contains("SECRET"), "{shown}");
        }
    }

    #[test]
    fn lists_and_the_scope_add_up() {
        let metadata = ClientMetadata::new()
            .redirect_uri("a:b")
            .redirect_uri("a:b")
            .redirect_uri("a:c")
            .grant_type("client_credentials")
            .scope("a b")
            .scope("b c")
            .jwk(json!({ "kid": 1 }))
            .jwk(json!({ "kid": 2 }));
        let expected = json!({
            "redirect_uris": ["a:b", "a:c"],
            "grant_types": ["client_credentials"],
            "scope": "a b c",
            "jwks": { "keys": [{ "kid": 1 }, { "kid": 2 }] },
        });
        assert_eq!(Value::Object(metadata.members), expected);
    }
}
