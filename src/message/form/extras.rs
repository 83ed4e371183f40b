//! Everything in a request except its parameters.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Uri};

use super::{Form, Names, Notes};
use crate::{
    base::{Quoted, uri},
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    message::{IdTokenChecks, polling_terms::PollingTerms, secret_names},
};

/// See the [module](self). What is large is boxed: a cache may hold many requests of which each has a label and nothing else.
#[derive(Clone, Default)]
pub(in crate::message) struct Extras {
    pub(super) headers: Option<Box<HeaderMap>>,
    pub(super) endpoint: Option<Box<Uri>>,
    pub(in crate::message) client_authentication: Option<Box<ClientAuthentication>>,
    pub(in crate::message) dpop: Option<DpopKey>,
    /// Neither sent nor compared.
    pub(in crate::message) polling: Option<Box<PollingTerms>>,
    /// Neither sent nor compared.
    pub(in crate::message) id_token_checks: Option<Arc<IdTokenChecks>>,
    /// The server that issued the credentials. Neither sent nor compared.
    pub(in crate::message) issuer: Option<Arc<String>>,
    /// For logs. Neither sent nor compared.
    pub(in crate::message) label: Option<Box<str>>,
    /// For the layers below. Neither sent nor compared.
    pub(in crate::message) context: Extensions,
    /// Keeps equal requests apart. Compared, but not sent.
    pub(in crate::message) partition: Option<Arc<String>>,
    /// The name of the sign-in that the credential belongs to. Compared, but not sent.
    pub(in crate::message) sign_in: Option<Arc<String>>,
    /// What the cache and the layer note for themselves. Neither sent nor compared.
    pub(in crate::message) notes: Option<Box<Notes>>,
    pub(super) invalid: Option<Box<str>>,
    /// Not compared: it follows from the parameters.
    pub(super) names: Option<Box<Names>>,
}

impl Form {
    /// Adds a header, and marks it sensitive if its name says so. The first one that is invalid is [remembered](Self::invalid).
    pub(in crate::message) fn push_header<K, V>(&mut self, name: K, value: V)
    where
        K: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        let extras = self.extras_mut();
        let invalid = match name.try_into() {
            Ok(name) => match value.try_into() {
                Ok(mut value) => {
                    value.set_sensitive(
                        value.is_sensitive() || secret_names::is_secret(name.as_str()),
                    );
                    extras.headers.get_or_insert_default().append(name, value);
                    return;
                }
                Err(_) => format!(
                    "the value of the header `{}` is invalid",
                    Quoted(name.as_str())
                ),
            },
            Err(_) => "the name of a header is invalid".to_owned(),
        };
        extras.invalid.get_or_insert(invalid.into());
    }

    /// Sets a header in place of all that have its name.
    pub(in crate::message) fn replace_header<K, V>(&mut self, name: K, value: V)
    where
        K: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match name.try_into() {
            Ok(name) => {
                if let Some(headers) = &mut self.extras_mut().headers {
                    headers.remove(&name);
                }
                self.push_header(name, value);
            }
            Err(_) => self.push_header("", value),
        }
    }

    /// Sets the endpoint that this request goes to instead of that of the service, which is called `name`. An invalid URI is
    /// [remembered](Self::invalid).
    pub(in crate::message) fn set_endpoint(&mut self, name: &str, uri: impl fmt::Display) {
        let extras = self.extras_mut();
        match uri::parse(uri) {
            Ok(uri) => extras.endpoint = Some(Box::new(uri)),
            Err(why) => {
                let invalid = format!("the URI of the {name} {why}");
                extras.invalid.get_or_insert(invalid.into());
            }
        }
    }

    /// Returns the issuer of the only server that may get this request, if there is only one.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.extras().issuer.as_deref().map(String::as_str)
    }

    pub(in crate::message) fn extras(&self) -> &Extras {
        static NOTHING: LazyLock<Extras> = LazyLock::new(Extras::default);
        self.0.extras.as_deref().unwrap_or_else(|| &NOTHING)
    }

    pub(in crate::message) fn extras_mut(&mut self) -> &mut Extras {
        Arc::make_mut(&mut self.0).extras.get_or_insert_default()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
        self.extras().headers.as_deref().unwrap_or_else(|| &NONE)
    }

    pub(crate) fn context(&self) -> &Extensions {
        &self.extras().context
    }

    /// The endpoint that this request goes to instead of that of the service.
    pub(crate) fn endpoint_override(&self) -> Option<&Uri> {
        self.extras().endpoint.as_deref()
    }

    /// The client that sends this request instead of that of the service.
    pub(crate) fn client_override(&self) -> Option<&ClientAuthentication> {
        self.extras().client_authentication.as_deref()
    }

    /// The key that this request uses instead of that of the service.
    pub(crate) fn dpop_override(&self) -> Option<&DpopKey> {
        self.extras().dpop.as_ref()
    }

    /// Refuses the request for this reason, unless an earlier setter did.
    pub(in crate::message) fn refuse(&mut self, why: impl Into<Box<str>>) {
        self.extras_mut().invalid.get_or_insert(why.into());
    }

    /// Returns the error of the first setter that was passed an invalid value.
    pub(crate) fn invalid(&self) -> Option<&str> {
        self.extras().invalid.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache with a million labelled requests holds as many of these.
    #[test]
    fn what_a_label_costs_beside_its_text_is_small() {
        assert!(size_of::<Extras>() <= 128, "{}", size_of::<Extras>());
    }
}
