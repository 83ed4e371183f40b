//! The OAuth error in a response of the token endpoint (RFC 6749 §5.2).

use std::fmt;

use super::ErrorCode;
use crate::base::Quoted;

/// The OAuth error that the server returned
/// ([RFC 6749 §5.2](https://www.rfc-editor.org/rfc/rfc6749#section-5.2)).
///
/// # Security
///
/// The strings come from the server: they may contain anything. Where the server repeats a secret of the request, in any encoding, it
/// is replaced by `[redacted]`. A string ends after 50,000 characters. `Display` and `Debug` escape and truncate the strings.
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorResponse {
    pub(crate) code: ErrorCode,
    pub(crate) description: Option<Box<str>>,
    pub(crate) uri: Option<Box<str>>,
}

impl ErrorResponse {
    /// Builds an error without a server; see [`TokenError::builder`](crate::TokenError::builder).
    pub fn builder(code: impl Into<ErrorCode>) -> ErrorResponseBuilder {
        ErrorResponseBuilder(Self {
            code: code.into(),
            description: None,
            uri: None,
        })
    }

    /// Returns the error code, `error`.
    #[must_use]
    pub fn code(&self) -> &ErrorCode {
        &self.code
    }

    /// Returns `error_description`, a message for developers, or what the server sends in its place, such as `message`.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Returns `error_uri`, the address of a page about the error.
    #[must_use]
    pub fn uri(&self) -> Option<&str> {
        self.uri.as_deref()
    }

    /// Masks the secrets of the request. `mask` returns `None` for a text without any.
    pub(super) fn mask(&mut self, mask: impl Fn(&str) -> Option<String>) {
        if !self.code.is_standard()
            && let Some(masked) = mask(self.code.as_str())
        {
            self.code = ErrorCode::from(&*masked);
        }
        for text in [&mut self.description, &mut self.uri] {
            if let Some(masked) = text.as_deref().and_then(&mask) {
                *text = Some(masked.into());
            }
        }
    }
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Quoted(self.code.as_str()))?;
        match &self.description {
            Some(description) => write!(f, " ({})", Quoted(description)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorResponse({self})")
    }
}

/// An error that has only a code.
impl From<ErrorCode> for ErrorResponse {
    fn from(code: ErrorCode) -> Self {
        Self::builder(code).build()
    }
}

/// Builds an [`ErrorResponse`] without a server.
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ErrorResponseBuilder(ErrorResponse);

impl ErrorResponseBuilder {
    /// Sets `error_description`, a message for developers. Default is none.
    pub fn description(mut self, description: impl Into<Box<str>>) -> Self {
        self.0.description = Some(description.into());
        self
    }

    /// Sets `error_uri`, the address of a page about the error. Default is none.
    pub fn uri(mut self, uri: impl Into<Box<str>>) -> Self {
        self.0.uri = Some(uri.into());
        self
    }

    /// Builds the error.
    pub fn build(self) -> ErrorResponse {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_text_is_escaped_and_truncated() {
        let error = ErrorResponse {
            code: ErrorCode::from("bad\r\nlog: line"),
            description: Some("\u{1b}[31m\u{202e}x".repeat(100).into()),
            uri: None,
        };
        let shown = format!("{error} {error:?} {:?}", error.code());
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'));
        assert!(shown.contains(r"bad\r\nlog: line"));
        assert!(error.to_string().contains("..."));
    }
}
