//! The copy of a request, from which it is resent.

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::AUTHORIZATION,
};

use super::resend::Resend;
use crate::{dpop::DPOP, token_cache::TokenHeader};

/// A request without its token and its proof.
pub(super) struct RequestCopy<B, R: Resend<B>> {
    method: Method,
    uri: Uri,
    version: Version,
    extensions: Extensions,
    /// In their order. A `HeaderMap` would cost a second allocation.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The value of the header with the token.
    pub(super) authorization: Option<HeaderValue>,
    body: R::Saved,
}

impl<B, R: Resend<B>> RequestCopy<B, R> {
    /// Copies a request whose token is in `header`. `body` is what is kept of its body.
    // It is large, and a call would move it one more time.
    #[inline(always)]
    pub(super) fn of(
        request: &Request<B>,
        body: R::Saved,
        header: Option<&TokenHeader>,
        has_proof: bool,
    ) -> Self {
        let (headers, authorization) = copy_headers(request.headers(), header, has_proof);
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            extensions: request.extensions().clone(),
            headers,
            authorization,
            body,
        }
    }

    /// Restores the request. Returns `None` if its body cannot be restored.
    pub(super) fn restore(self) -> Option<Request<B>> {
        let mut request = Request::new(R::restore(self.body)?);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.extensions_mut() = self.extensions;
        for (name, value) in self.headers {
            request.headers_mut().append(name, value);
        }
        Some(request)
    }
}

/// Copies all headers except that of the token, which is returned, and that of the proof.
fn copy_headers(
    headers: &HeaderMap,
    token: Option<&TokenHeader>,
    has_proof: bool,
) -> (Vec<(HeaderName, HeaderValue)>, Option<HeaderValue>) {
    let token = token.map_or(&AUTHORIZATION, |header| &header.name);
    let mut authorization = None;
    let mut copy = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let value = value.clone();
        if name == token {
            authorization = Some(value);
        } else if !has_proof || name != DPOP {
            // A proof is for one request and one token.
            copy.push((name.clone(), value));
        }
    }
    (copy, authorization)
}
