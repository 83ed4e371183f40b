//! The HTTP response that a token or an error was read from.

use std::sync::OnceLock;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use serde_json::Value;

/// The HTTP response that a token or an error was read from.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) raw: Bytes,
    /// Whether the whole body was received. If not, `raw` is empty.
    pub(crate) is_whole: bool,
    json: OnceLock<Option<Value>>,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, headers: HeaderMap, raw: Bytes) -> Self {
        Self {
            status,
            headers,
            raw,
            is_whole: true,
            json: OnceLock::new(),
        }
    }

    /// A response whose body was cut off or too large.
    pub(crate) fn without_body(status: StatusCode, headers: HeaderMap) -> Self {
        Self {
            is_whole: false,
            ..Self::new(status, headers, Bytes::new())
        }
    }

    /// The body without the byte order mark that some servers prepend.
    pub(crate) fn text(&self) -> &[u8] {
        self.raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.raw)
    }

    /// Whether `Content-Type` names this type, in lower case and without parameters.
    pub(crate) fn has_content_type(&self, media_type: &str) -> bool {
        let found = self.headers.get(CONTENT_TYPE);
        let found = found.and_then(|found| found.to_str().ok());
        let found = found.and_then(|found| found.split(';').next());
        found.is_some_and(|found| found.trim().eq_ignore_ascii_case(media_type))
    }

    pub(crate) fn json(&self) -> Option<&Value> {
        self.json
            .get_or_init(|| serde_json::from_slice(self.text()).ok())
            .as_ref()
    }
}
