//! What the answers, and the requests, of several endpoints have in common.

/// Implements `get`, `json`, `raw`, `status` and `headers` for an answer with the fields `json` and `answer` in its `Arc`.
macro_rules! answer_accessors {
    ($Response:ident, $secrets:literal) => {
        /// # The whole answer
        impl $Response {
            /// Returns a member of the JSON object by its name, as the server sent it.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<&serde_json::Value> {
                self.json().get(name)
            }

            #[doc = concat!("Returns the whole JSON object. ", $secrets)]
            #[must_use]
            pub fn json(&self) -> &serde_json::Value {
                &self.0.json
            }

            #[doc = concat!("Returns the unparsed body. ", $secrets)]
            #[must_use]
            pub fn raw(&self) -> &bytes::Bytes {
                &self.0.answer.raw
            }

            /// Returns the status of the HTTP response, which is 2xx.
            #[must_use]
            pub fn status(&self) -> http::StatusCode {
                self.0.answer.status
            }

            /// Returns the headers of the HTTP response.
            #[must_use]
            pub fn headers(&self) -> &http::HeaderMap {
                &self.0.answer.headers
            }
        }
    };
}

pub(super) use answer_accessors;

/// Implements the setters that every request to an endpoint has, for a request whose first field is its form.
macro_rules! request_setters {
    ($Request:ident, $endpoint:literal, $service:literal, $setter:ident, $($form:tt)+) => {
        /// # The HTTP request
        impl $Request {
            /// Adds a header to the HTTP request. Default is none.
            ///
            /// You can add a header several times. If the name or the value is invalid, or if this crate sets the header itself, the
            /// request fails before anything is sent.
            ///
            /// A header whose name says that its value is a secret (`cookie`, `key`, `token` and similar) is marked
            /// [sensitive](http::HeaderValue::set_sensitive), so that `Debug` of the HTTP request does not print its value. Mark the value
            /// of any other header that is a secret.
            #[must_use]
            pub fn header<K, V>(mut self, name: K, value: V) -> Self
            where
                K: TryInto<http::HeaderName>,
                V: TryInto<http::HeaderValue>,
            {
                self.$($form)+.push_header(name, value);
                self
            }

            #[doc = concat!("Sends this request to another ", $endpoint, ". Default is the URI of the [`", $service, "`](crate::", $service, ").")]
            ///
            /// It takes the URI as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. If the URI is invalid, the
            /// request fails before anything is sent.
            #[must_use]
            pub fn $setter(mut self, uri: impl std::fmt::Display) -> Self {
                self.$($form)+.set_endpoint($endpoint, uri);
                self
            }

            /// Sets a name for logs: whose request this is. It appears in errors, so it must not be a secret. Default is none.
            #[must_use]
            pub fn label<'a>(mut self, label: impl Into<std::borrow::Cow<'a, str>>) -> Self {
                self.$($form)+.extras_mut().label = Some(label.into().into());
                self
            }

            /// Returns the [label](Self::label).
            #[must_use]
            pub fn get_label(&self) -> Option<&str> {
                self.$($form)+.label()
            }

            /// Adds a value for the layers below, in place of an earlier one of the same type. Default is none.
            ///
            /// The endpoint adds it to the [extensions](http::Extensions) of the HTTP request. It is neither sent nor compared.
            #[must_use]
            pub fn context<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
                self.$($form)+.extras_mut().context.insert(value);
                self
            }

            /// Returns the context of this type; see [`context`](Self::context).
            #[must_use]
            pub fn get_context<T: Send + Sync + 'static>(&self) -> Option<&T> {
                self.$($form)+.context().get()
            }

            pub(crate) fn into_form(self) -> crate::message::Form {
                self.$($form)+
            }
        }
    };
}

pub(super) use request_setters;

/// Implements [`request_setters`], and the setter of the client that sends the request.
macro_rules! client_request_setters {
    ($Request:ident, $endpoint:literal, $service:literal, $setter:ident, $($form:tt)+) => {
        crate::message::accessors::request_setters!($Request, $endpoint, $service, $setter, $($form)+);

        impl $Request {
            #[doc = concat!("Sends this request as another client. Default is the client of the [`", $service, "`](crate::", $service, ").")]
            #[must_use]
            pub fn client_authentication(mut self, client: crate::ClientAuthentication) -> Self {
                self.$($form)+.extras_mut().client_authentication = Some(Box::new(client));
                self
            }
        }
    };
}

pub(super) use client_request_setters;

/// Implements `parameter`, for a request whose parameters need no further explanation, and the private `push`.
macro_rules! parameter_setter {
    ($Request:ident, $($form:tt)+) => {
        impl $Request {
            /// Sets another parameter. Default is none.
            ///
            /// An empty parameter is not sent, and one that is set twice with the same value is sent once. If the values differ, the request
            /// fails before anything is sent.
            #[must_use]
            pub fn parameter(
                self,
                name: impl Into<std::borrow::Cow<'static, str>>,
                value: impl Into<crate::secret::Credential>,
            ) -> Self {
                self.push(crate::message::Parameter::general(name, value))
            }

            fn push(mut self, parameter: crate::message::Parameter) -> Self {
                self.$($form)+.push(parameter);
                self
            }
        }
    };
}

pub(super) use parameter_setter;
