//! Recognizes a compressed response, which the HTTP client should have decompressed.

use http::header::CONTENT_ENCODING;

use super::Answer;
use crate::base::Quoted;

/// Describes the compression of a response that could not be read, and what to do about it.
pub(crate) fn compression(answer: &Answer) -> Option<String> {
    let named = answer.headers.get(CONTENT_ENCODING);
    let named = named.and_then(|coding| coding.to_str().ok()).map(str::trim);
    let named =
        named.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"));
    let found = by_first_bytes(&answer.raw);
    // A client may have decompressed the response without removing the header.
    if found.is_none() && is_text(answer.text()) {
        return None;
    }
    let coding = named.or(found)?;
    Some(format!(
        "a compressed response ({}), although it was asked not to compress; put a layer that decompresses around the HTTP client \
         (`Decompression` of tower-http), or enable the feature of the client that does (`gzip` of reqwest)",
        Quoted(coding)
    ))
}

/// The coding that begins with these bytes. Brotli has no mark.
fn by_first_bytes(body: &[u8]) -> Option<&'static str> {
    match body {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [0x78, 0x01 | 0x9c | 0xda, ..] => Some("deflate"),
        _ => None,
    }
}

fn is_text(body: &[u8]) -> bool {
    let is_binary = |c: char| c.is_control() && !c.is_whitespace();
    std::str::from_utf8(body).is_ok_and(|text| !text.contains(is_binary))
}
