//! Whose request a call sends, and to which host, for its errors and for the caller.

use std::sync::Arc;

use http::Uri;

use crate::{
    base::uri,
    client_authentication::ClientAuthentication,
    error::{CalledEndpoint, TokenError},
    message::Form,
};

/// Whose request it is, for an error.
///
/// It keeps the request until its response has been read, without a copy.
pub(super) struct CallAbout {
    form: Form,
    called: Arc<CalledEndpoint>,
}

impl CallAbout {
    pub(super) fn new(form: Form, called: Arc<CalledEndpoint>) -> Self {
        Self { form, called }
    }

    /// Notes where the request is sent to, if the metadata of the issuer name another host than that of the issuer.
    pub(super) fn note_uri(&mut self, uri: &Uri) {
        let host = uri::host(uri);
        if self.called.host.as_deref() != host {
            self.called = self.called.at(host);
            self.form.note_called(&self.called);
        }
    }

    /// Says in an error whose request it was.
    pub(super) fn error(&self, error: TokenError) -> TokenError {
        error.about(|| self.form.about(Some(&self.called)))
    }
}

/// Returns who calls which host.
pub(super) fn called(client: &ClientAuthentication, host: Option<Box<str>>) -> Arc<CalledEndpoint> {
    let client_id = Some(client.client_id()).filter(|id| !id.is_empty());
    CalledEndpoint::new(client_id.map(Into::into), host)
}
