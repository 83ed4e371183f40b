//! A received request, for tests to inspect.

use std::fmt;

use http::{HeaderMap, Method, Uri, request::Parts};

/// A request that the [`AuthorizationServer`](super::AuthorizationServer) received.
///
/// All of it can be read. The `Debug` output contains the names of headers and parameters but not their values,
/// because nearly all of them are secret.
///
/// ```
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_oauth2_client::test_util::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = AuthorizationServer::new();
/// let request = Request::post(server.token_endpoint())
///     .header("content-type", "application/x-www-form-urlencoded")
///     .body("grant_type=client_credentials&client_id=client&client_secret=secret".to_owned())?;
/// server.clone().oneshot(request).await?;
///
/// let requests = server.requests();
/// assert_eq!(requests[0].get("grant_type"), Some("client_credentials"));
/// assert!(!format!("{requests:?}").contains("=secret"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RecordedRequest {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    form: Vec<(String, String)>,
}

impl RecordedRequest {
    pub(super) fn new(parts: Parts, body: &[u8]) -> Self {
        Self {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            form: form_urlencoded::parse(body).into_owned().collect(),
        }
    }

    /// Returns a copy of the head.
    #[cfg(feature = "dpop")]
    pub(super) fn without_body(&self) -> http::Request<()> {
        let mut head = http::Request::new(());
        *head.method_mut() = self.method.clone();
        *head.uri_mut() = self.uri.clone();
        *head.headers_mut() = self.headers.clone();
        head
    }

    /// Returns the method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Returns the URI as received: absolute in process, only path and query over a connection.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Returns the path, such as `/token`.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// Returns the headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the decoded parameters of the body in the order received, including empty ones.
    pub fn form(&self) -> &[(String, String)] {
        &self.form
    }

    /// Returns the first parameter of that name.
    ///
    /// A parameter without a value counts as not sent (RFC 6749 §3.2), so this returns `None` for it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut sent = self.form.iter().filter(|(_, value)| !value.is_empty());
        sent.find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns all parameters of that name, in order. Parameters without a value are omitted.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.form
            .iter()
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters: Vec<&str> = self.form.iter().map(|(name, _)| name.as_str()).collect();
        let headers: Vec<&str> = self.headers.keys().map(http::HeaderName::as_str).collect();
        f.debug_struct("RecordedRequest")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("headers", &headers)
            .field("parameters", &parameters)
            .finish_non_exhaustive()
    }
}
