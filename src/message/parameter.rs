//! `Parameter`: a name and a value in the form body of a request.

use std::{
    borrow::Cow,
    hash::{Hash, Hasher},
};

use crate::{
    message::{scope, secret_names},
    secret::{Credential, Secret},
};

/// A name and value in the form body.
#[derive(Clone)]
pub(crate) struct Parameter {
    pub(crate) name: Cow<'static, str>,
    pub(crate) value: Credential,
    pub(crate) repeatable: bool,
    /// Whether a setter of its own set it. Such a value must be valid. A general setter takes whatever the server understands.
    pub(crate) checked: bool,
}

impl Parameter {
    /// Makes the parameter of a setter of its own.
    pub(super) fn checked(name: &'static str, value: impl Into<Credential>) -> Self {
        Self {
            checked: true,
            ..Self::general(name, value)
        }
    }

    /// Makes the parameter of a general setter.
    pub(crate) fn general(
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Credential>,
    ) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            repeatable: false,
            checked: false,
        }
    }

    /// Allows several parameters of this name.
    pub(crate) fn repeatable(self) -> Self {
        Self {
            repeatable: true,
            ..self
        }
    }

    /// Returns whether the parameter is not sent with this value.
    ///
    /// "Parameters sent without a value MUST be treated as if they were omitted from the request" (RFC 6749 §3.2). A grant without what it
    /// requires is a mistake, though, and so is an empty argument of a setter that exists for this parameter.
    pub(crate) fn is_left_out(&self, value: &str) -> bool {
        match &*self.name {
            "scope" => scope::is_empty(value),
            // An error of its own.
            "" => false,
            name => value.is_empty() && !self.checked && !REQUIRED.contains(&name),
        }
    }

    /// Whether this is a credential that the server accepts only once.
    pub(super) fn is_one_time(&self) -> bool {
        const ONE_TIME: [&str; 4] = ["code", "refresh_token", "device_code", "auth_req_id"];
        ONE_TIME.contains(&&*self.name)
    }

    /// Returns the value, unless it is a secret: because the caller says so, because a provider returns it, or by its name.
    pub(super) fn readable(&self) -> Option<&str> {
        let value = self.value.plain_text();
        value.filter(|_| !secret_names::is_secret(&self.name))
    }

    /// Returns the value if this is a fixed scope, which is compared as a set of words.
    pub(super) fn scope(&self) -> Option<&str> {
        match &*self.name {
            "scope" => self.value.known().map(Secret::expose),
            _ => None,
        }
    }

    /// Returns whether the check of the value has the same result as that of an equal parameter.
    ///
    /// A code verifier is the only one with a form that a general setter does not check. If a provider returns an empty value, a general
    /// setter leaves it out.
    pub(super) fn is_checked_like(&self, other: &Self) -> bool {
        let is_unaffected = || match self.value.known().map(Secret::expose) {
            Some(value) => self.name != "code_verifier" || is_code_verifier(value),
            None => REQUIRED.contains(&&*self.name),
        };
        self.checked == other.checked || is_unaffected()
    }
}

/// Parameters that some grant or request requires. Empty, they are refused, except for a password: a user may have none.
const REQUIRED: [&str; 14] = [
    "grant_type",
    "code",
    "username",
    "password",
    "refresh_token",
    "device_code",
    "auth_req_id",
    "assertion",
    "subject_token",
    "subject_token_type",
    "token",
    "client_id",
    "client_secret",
    "client_assertion",
];

/// Whether a code verifier has the form of RFC 7636 §4.1.
pub(crate) fn is_code_verifier(verifier: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (43..=128).contains(&verifier.len()) && verifier.bytes().all(unreserved)
}

impl PartialEq for Parameter {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && match (self.scope(), other.scope()) {
                (Some(a), Some(b)) => scope::is_same(a, b),
                _ => self.value == other.value,
            }
    }
}

impl Eq for Parameter {}

impl Hash for Parameter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        match self.scope() {
            Some(scope) => scope::hash(scope, state),
            None => self.value.hash(state),
        }
    }
}

/// Returns whether a parameter of a request with a one-time credential is not part of the requests that continue it.
pub(crate) fn is_first_only(name: &str) -> bool {
    const FIRST_ONLY: [&str; 7] = [
        "grant_type",
        "code",
        "redirect_uri",
        "code_verifier",
        "device_code",
        "auth_req_id",
        "refresh_token",
    ];
    FIRST_ONLY.contains(&name)
}
