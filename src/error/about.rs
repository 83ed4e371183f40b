//! Whose token an error is about, and at which host.

use std::{fmt, sync::Arc};

use super::{TokenError, TokenErrorBuilder, token_error::Attributed};
use crate::base::{Quoted, sync::ArcSwapOption};

/// The client that called an endpoint, and the host of that endpoint.
#[derive(Debug)]
pub(crate) struct CalledEndpoint {
    pub(crate) client_id: Option<Box<str>>,
    /// With its port, if the URI names one.
    pub(crate) host: Option<Box<str>>,
    /// The same client at the host that the metadata of its issuer named last, if that is another host.
    elsewhere: ArcSwapOption<Self>,
}

impl CalledEndpoint {
    pub(crate) fn new(client_id: Option<Box<str>>, host: Option<Box<str>>) -> Arc<Self> {
        Arc::new(Self {
            client_id,
            host,
            elsewhere: ArcSwapOption::empty(),
        })
    }

    /// Returns the same client at another host. The requests of an endpoint share it.
    pub(crate) fn at(&self, host: Option<&str>) -> Arc<Self> {
        let last = self.elsewhere.load();
        match &*last {
            Some(last) if last.host.as_deref() == host => last.clone(),
            _ => {
                let called = Self::new(self.client_id.clone(), host.map(Into::into));
                self.elsewhere.store(Some(called.clone()));
                called
            }
        }
    }
}

/// Whose request failed. It contains no secret.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) label: Option<Box<str>>,
    pub(crate) grant_type: Option<Box<str>>,
    pub(crate) scope: Option<Box<str>>,
    pub(crate) client_id: Option<Box<str>>,
    pub(crate) host: Option<Box<str>>,
}

/// # Whose token, and which host
///
/// Each method returns `None` if the value is not known, or if it may be a secret. An error from a cache says whose token it is about even if
/// a layer below made it, such as tower's `Timeout`. Callers that share a fetch share its error, which has the label of the first of them.
impl TokenError {
    /// Returns the [label](crate::TokenRequest::label) of the request.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{TokenError, TokenErrorKind};
    ///
    /// let error = TokenError::builder(TokenErrorKind::Timeout)
    ///     .label("tenant blue")
    ///     .client_id("billing")
    ///     .host("as.example")
    ///     .build();
    /// assert_eq!(error.label(), Some("tenant blue"));
    /// assert_eq!(
    ///     error.to_string(),
    ///     "the token endpoint did not respond in time [host as.example, client billing, label tenant blue]",
    /// );
    /// ```
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.find_about(|about| about.label.as_deref())
    }

    /// Returns the id of the client that sent the request.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.find_about(|about| about.client_id.as_deref())
    }

    /// Returns the grant type of the request that failed. For a source over a code, this can be `refresh_token`.
    #[must_use]
    pub fn grant_type(&self) -> Option<&str> {
        self.find_about(|about| about.grant_type.as_deref())
    }

    /// Returns the requested scope.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.find_about(|about| about.scope.as_deref())
    }

    /// Returns the host of the endpoint, and its port if the URI names one.
    ///
    /// If the endpoint was not found in the metadata of the issuer, it is the host of the issuer.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.find_about(|about| about.host.as_deref())
    }

    /// Looks at this error, and then at the one that caused it.
    fn find_about<'a>(&'a self, get: impl Fn(&'a About) -> Option<&'a str>) -> Option<&'a str> {
        let own = self.0.about.as_deref().and_then(&get);
        own.or_else(|| self.cause()?.0.about.as_deref().and_then(&get))
    }

    /// Says whose request failed, unless that is known.
    ///
    /// An error that other requests share, such as one of the metadata, is not changed for them.
    pub(crate) fn about(mut self, about: impl FnOnce() -> About) -> Self {
        let is_known = |error: &Self| error.0.about.is_some();
        if is_known(&self) || self.cause().is_some_and(is_known) {
            return self;
        }
        let about = Some(Box::new(about()));
        match Arc::get_mut(&mut self.0) {
            Some(attributed) => attributed.about = about,
            None => {
                let inner = self.0.inner.clone();
                self.0 = Arc::new(Attributed { inner, about });
            }
        }
        self
    }
}

/// # Whose token, and which host
impl TokenErrorBuilder {
    /// Sets the label of the request. Default is none.
    pub fn label(mut self, label: impl Into<Box<str>>) -> Self {
        self.about.label = Some(label.into());
        self
    }

    /// Sets the id of the client that sent the request. Default is none.
    pub fn client_id(mut self, client_id: impl Into<Box<str>>) -> Self {
        self.about.client_id = Some(client_id.into());
        self
    }

    /// Sets the grant type of the request. Default is none.
    pub fn grant_type(mut self, grant_type: impl Into<Box<str>>) -> Self {
        self.about.grant_type = Some(grant_type.into());
        self
    }

    /// Sets the requested scope. Default is none.
    pub fn scope(mut self, scope: impl Into<Box<str>>) -> Self {
        self.about.scope = Some(scope.into());
        self
    }

    /// Sets the host of the endpoint, with its port if that matters. Default is none.
    pub fn host(mut self, host: impl Into<Box<str>>) -> Self {
        self.about.host = Some(host.into());
        self
    }
}

impl About {
    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            label,
            grant_type,
            scope,
            client_id,
            host,
        } = self;
        let all = [label, grant_type, scope, client_id, host];
        all.iter().all(|known| known.is_none())
    }

    /// The values that a message contains, with their names.
    fn in_message(&self) -> [(&'static str, Option<&str>); 3] {
        [
            ("host", self.host.as_deref()),
            ("client", self.client_id.as_deref()),
            ("label", self.label.as_deref()),
        ]
    }
}

/// The end of a message: the status of the response, and whose request it was. Empty if nothing of this is known.
pub(super) struct Remarks<'a> {
    pub(super) status: Option<u16>,
    pub(super) about: Option<&'a About>,
}

impl fmt::Display for Remarks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = " [";
        if let Some(status) = self.status {
            write!(f, "{separator}status {status}")?;
            separator = ", ";
        }
        for (name, value) in self.about.into_iter().flat_map(About::in_message) {
            if let Some(value) = value {
                write!(f, "{separator}{name} {}", Quoted(value))?;
                separator = ", ";
            }
        }
        match separator {
            ", " => f.write_str("]"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TokenErrorKind;

    fn blue() -> About {
        About {
            label: Some("blue".into()),
            ..About::default()
        }
    }

    #[test]
    fn requests_to_the_same_host_share_one_object() {
        let issuer = CalledEndpoint::new(Some("client".into()), Some("as.example".into()));
        let first = issuer.at(Some("token.as.example"));
        assert_eq!(first.client_id.as_deref(), Some("client"));
        assert_eq!(first.host.as_deref(), Some("token.as.example"));
        assert!(Arc::ptr_eq(&first, &issuer.at(Some("token.as.example"))));

        let moved = issuer.at(Some("new.as.example"));
        assert_eq!(moved.host.as_deref(), Some("new.as.example"));
        assert!(Arc::ptr_eq(&moved, &issuer.at(Some("new.as.example"))));
        assert_eq!(issuer.at(None).host, None);
    }

    #[test]
    fn the_first_one_who_knows_whose_request_failed_is_believed() {
        let error = TokenError::request("no").about(blue);
        let again = error.about(|| panic!("it is known"));
        assert_eq!(again.label(), Some("blue"));
        let outer = TokenError::new(TokenErrorKind::SignInRequired, "ended", Some(again.into()));
        let outer = outer.about(|| panic!("its cause knows it"));
        assert_eq!(outer.label(), Some("blue"));
        assert_eq!(outer.to_string(), "ended");
    }

    #[test]
    fn a_shared_error_is_not_changed_for_others() {
        let shared = TokenError::request("no");
        let about_blue = shared.clone().about(blue);
        assert_eq!(about_blue.label(), Some("blue"));
        assert_eq!(about_blue.to_string(), "no [label blue]");
        assert_eq!(shared.label(), None);
        assert_eq!(shared.to_string(), "no");
    }

    #[test]
    fn remarks_are_escaped_and_left_out_if_there_are_none() {
        let about = |host: &str| About {
            host: Some(host.into()),
            client_id: Some("c".into()),
            ..blue()
        };
        for (status, about, expected) in [
            (None, None, ""),
            (None, Some(About::default()), ""),
            (Some(400), None, " [status 400]"),
            (None, Some(blue()), " [label blue]"),
            (
                Some(401),
                Some(about("as.example:8443")),
                " [status 401, host as.example:8443, client c, label blue]",
            ),
            (
                None,
                Some(about("a\nb")),
                r" [host a\nb, client c, label blue]",
            ),
        ] {
            let about = about.as_ref();
            assert_eq!(Remarks { status, about }.to_string(), expected);
        }
    }
}
