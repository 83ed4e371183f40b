//! The public half of a key, as a JWK.

/// The public half of a key as a JSON Web Key ([RFC 7517](https://www.rfc-editor.org/rfc/rfc7517)), with the members that
/// [RFC 7638 §3.2](https://www.rfc-editor.org/rfc/rfc7638#section-3.2) requires and no others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey {
    json: String,
    thumbprint: String,
}

impl PublicKey {
    /// The key as JSON, its members in lexicographic order and without white space.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// The SHA-256 thumbprint, base64url without padding ([RFC 7638 §3](https://www.rfc-editor.org/rfc/rfc7638#section-3)).
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }
}
