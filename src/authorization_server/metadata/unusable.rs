//! `Unusable`: why a document is not the metadata that were requested.

use crate::base::Quoted;

/// Why a document is not the metadata that were requested.
#[derive(Debug, PartialEq)]
pub(super) enum Unusable {
    /// It is not a JSON object, or not metadata: it may be what the server returns for any unknown URI.
    NoDocument(&'static str),
    /// It is metadata, and wrong.
    Wrong(String),
}

impl Unusable {
    /// The document is not a JSON object.
    pub(super) fn no_object(document: &[u8]) -> Self {
        let first = document.iter().find(|byte| !byte.is_ascii_whitespace());
        Self::NoDocument(match first {
            None => "the response is empty",
            Some(b'<') => "the response is a page instead of JSON",
            Some(b'{') => "the response is JSON that is broken or ends too early",
            Some(_) => "the response is something other than a JSON object",
        })
    }

    /// The document contains a member twice that must be unique.
    pub(super) fn repeated(name: &str) -> Self {
        Self::Wrong(format!("it contains the member `{}` twice", Quoted(name)))
    }
}
