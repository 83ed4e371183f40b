//! Strings that are never printed, and that are wiped from memory when the last clone is dropped.

mod credential;
mod provided;
mod read;
mod rereads;

use std::{fmt, hash, sync::Arc};

use zeroize::Zeroizing;

pub use self::credential::Credential;
pub(crate) use self::{
    provided::{ProvidedText, ProvidedTexts},
    rereads::SharedRereads,
};

/// A secret string, shared by its clones.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    pub(crate) fn new(secret: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(secret.into())))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl hash::Hash for Secret {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.expose().hash(state);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Cloning is cheap: clones share the text, which is wiped from memory when the last clone is dropped.
        ///
        /// # Security
        ///
        /// `Debug` prints `[redacted]`, and there is no `Display`. Only [`expose_secret`](Self::expose_secret) returns the text.
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(Secret);

        impl $name {
            /// Wraps a secret.
            pub fn new(secret: impl Into<String>) -> Self {
                Self(Secret::new(secret))
            }

            /// Returns the secret. Keep it out of logs and error messages.
            #[must_use]
            pub fn expose_secret(&self) -> &str {
                self.0.expose()
            }

            #[allow(dead_code, reason = "not every kind of secret is sent to a server")]
            pub(crate) fn into_inner(self) -> Secret {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "([redacted])"))
            }
        }

        impl From<&str> for $name {
            fn from(secret: &str) -> Self {
                Self::new(secret)
            }
        }

        impl From<String> for $name {
            fn from(secret: String) -> Self {
                Self::new(secret)
            }
        }
    };
}

secret! {
    /// A secret that a client shares with the authorization server
    /// ([RFC 6749 §2.3.1](https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1)).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientSecret;
    ///
    /// let secret = ClientSecret::new("hunter2");
    /// assert_eq!(secret.expose_secret(), "hunter2");
    /// assert_eq!(format!("{secret:?}"), "ClientSecret([redacted])");
    /// ```
    ClientSecret
}

secret! {
    /// A token that a client exchanges for new access tokens
    /// ([RFC 6749 §1.5](https://www.rfc-editor.org/rfc/rfc6749#section-1.5)).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{RefreshToken, TokenRequest};
    ///
    /// let token = RefreshToken::new("8xLOxBtZp8");
    /// let request = TokenRequest::refresh_token(token.clone());
    /// assert_eq!(format!("{token:?}"), "RefreshToken([redacted])");
    /// ```
    RefreshToken
}

secret! {
    /// An ID token as the server sent it, not verified
    /// ([OpenID Connect Core §2](https://openid.net/specs/openid-connect-core-1_0.html#IDToken)).
    ///
    /// It is treated as a secret because it contains claims about a person.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::IdToken;
    ///
    /// assert_eq!(IdToken::new("e30.e30.").expose_secret(), "e30.e30.");
    /// ```
    IdToken
}

secret! {
    /// The code with which a device asks for its token
    /// ([RFC 8628 §3.2](https://www.rfc-editor.org/rfc/rfc8628#section-3.2)).
    ///
    /// The user never sees it: what the user enters is the user code.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{DeviceCode, TokenRequest};
    ///
    /// let code = DeviceCode::new("GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS");
    /// let request = TokenRequest::device_code(&code);
    /// assert_eq!(format!("{code:?}"), "DeviceCode([redacted])");
    /// ```
    DeviceCode
}

secret! {
    /// The ID of a backchannel authentication request, with which a client asks for its token
    /// ([OpenID Connect CIBA §7.3](https://openid.net/specs/openid-client-initiated-backchannel-authentication-core-1_0.html#successful_authentication_request_acknowdlegment)).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AuthReqId, TokenRequest};
    ///
    /// let id = AuthReqId::new("1c266114-a1be-4252-8ad1-04986c5b9ac1");
    /// let request = TokenRequest::ciba(&id);
    /// assert_eq!(format!("{id:?}"), "AuthReqId([redacted])");
    /// ```
    AuthReqId
}
