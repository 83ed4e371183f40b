//! Defines the service of an endpoint: the struct, its settings, and what makes it a tower `Service`.

/// Defines the service of an endpoint other than the token endpoint, and the method of `TokenEndpoint` that returns it.
///
/// All these services have the same settings. The discovery of an issuer has settings of its own, which only `TokenEndpoint` has.
///
/// `call` may depend on the request: `call of request = MyCall::new(&request) => MyCall;`.
macro_rules! endpoint_service {
    (
        $(#[$doc:meta])*
        pub struct $Endpoint:ident;

        endpoint = $endpoint:literal at $example_uri:literal;

        call $(of $by:ident)? = $call:expr => $Call:ty;
        request = $Request:ident;
        response = $Response:ty;

        $(#[$accessor_doc:meta])*
        TokenEndpoint::$accessor:ident
    ) => {
        crate::authorization_server::endpoint::endpoint_service_parts! {
            $(#[$doc])*
            pub struct $Endpoint;

            endpoint = $endpoint;

            call $(of $by)? = $call => $Call;
            request = $Request;
            response = $Response;

            $(#[$accessor_doc])*
            TokenEndpoint::$accessor = other_endpoint
        }

        impl<S> $Endpoint<S> {
            #[doc = concat!("Creates a service for the ", $endpoint, " at `uri`, which `client` calls through `inner`.")]
            ///
            /// It takes the URI as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. It never fails: an invalid
            /// URI is reported by the first request, before anything is sent.
            ///
            #[doc = concat!("If you know only the issuer, use [`TokenEndpoint::", stringify!($accessor), "`](crate::TokenEndpoint::", stringify!($accessor), "): it finds the URI in the metadata.")]
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use tower_oauth2_client::{ClientAuthentication, ", stringify!($Endpoint), "};")]
            ///
            #[doc = concat!("# fn example<S>(http: S) -> ", stringify!($Endpoint), "<S> {")]
            #[doc = concat!(stringify!($Endpoint), "::new(")]
            ///     http,
            #[doc = concat!("    \"", $example_uri, "\",")]
            ///     ClientAuthentication::client_secret_basic("client", "secret"),
            /// )
            /// # }
            /// ```
            pub fn new(
                inner: S,
                uri: impl std::fmt::Display,
                client: crate::ClientAuthentication,
            ) -> Self {
                let request_body = http_body_util::Full::new;
                Self {
                    core: crate::authorization_server::endpoint::EndpointCore::new(
                        inner,
                        uri,
                        client,
                        request_body,
                    ),
                }
            }
        }

        impl<S, B> $Endpoint<S, B> {
            /// Sends a DPoP proof with each request ([RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)). Default is none.
            ///
            /// Some servers demand a proof at all their endpoints. If the server demands another nonce, the request is sent a second
            /// time at once, with a fresh proof and freshly obtained credentials.
            #[cfg(feature = "dpop")]
            #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
            #[must_use]
            pub fn dpop(mut self, key: crate::DpopKey) -> Self {
                self.core.dpop = Some(key);
                self
            }

            /// Returns the client that sends the requests. A request can name another one.
            #[must_use]
            pub fn client(&self) -> &crate::ClientAuthentication {
                &self.core.client
            }
        }
    };
}

/// Defines the service of an endpoint at which no client authenticates: an access token authorizes the request, if anything does.
///
/// The syntax is that of [`endpoint_service`].
macro_rules! protected_endpoint_service {
    (
        $(#[$doc:meta])*
        pub struct $Endpoint:ident;

        endpoint = $endpoint:literal at $example_uri:literal;

        call $(of $by:ident)? = $call:expr => $Call:ty;
        request = $Request:ident;
        response = $Response:ty;

        $(#[$accessor_doc:meta])*
        TokenEndpoint::$accessor:ident
    ) => {
        crate::authorization_server::endpoint::endpoint_service_parts! {
            $(#[$doc])*
            pub struct $Endpoint;

            endpoint = $endpoint;

            call $(of $by)? = $call => $Call;
            request = $Request;
            response = $Response;

            $(#[$accessor_doc])*
            TokenEndpoint::$accessor = other_endpoint_without_client
        }

        impl<S> $Endpoint<S> {
            #[doc = concat!("Creates a service for the ", $endpoint, " at `uri`, which is called through `inner`.")]
            ///
            /// It takes the URI as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. It never fails: an invalid
            /// URI is reported by the first request, before anything is sent.
            ///
            #[doc = concat!("If you know only the issuer, use [`TokenEndpoint::", stringify!($accessor), "`](crate::TokenEndpoint::", stringify!($accessor), "): it finds the URI in the metadata.")]
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use tower_oauth2_client::", stringify!($Endpoint), ";")]
            ///
            #[doc = concat!("# fn example<S>(http: S) -> ", stringify!($Endpoint), "<S> {")]
            #[doc = concat!(stringify!($Endpoint), "::new(http, \"", $example_uri, "\")")]
            /// # }
            /// ```
            pub fn new(inner: S, uri: impl std::fmt::Display) -> Self {
                Self {
                    core: crate::authorization_server::endpoint::EndpointCore::new(
                        inner,
                        uri,
                        crate::ClientAuthentication::anonymous(),
                        http_body_util::Full::new,
                    ),
                }
            }
        }
    };
}

/// What [`endpoint_service`] and [`protected_endpoint_service`] have in common.
macro_rules! endpoint_service_parts {
    (
        $(#[$doc:meta])*
        pub struct $Endpoint:ident;

        endpoint = $endpoint:literal;

        call $(of $by:ident)? = $call:expr => $Call:ty;
        request = $Request:ident;
        response = $Response:ty;

        $(#[$accessor_doc:meta])*
        TokenEndpoint::$accessor:ident = $other_endpoint:ident
    ) => {
        $(#[$doc])*
        pub struct $Endpoint<S, B = http_body_util::Full<bytes::Bytes>> {
            core: crate::authorization_server::endpoint::EndpointCore<S, B>,
        }

        impl<S, B> $Endpoint<S, B> {
            /// Sets the function that makes the request body of `S` from its bytes. Default is `Full::new`.
            ///
            /// It is needed if the HTTP service takes another body than `Full<Bytes>`; see
            /// [`TokenEndpoint::request_body`](crate::TokenEndpoint::request_body).
            pub fn request_body<C>(self, request_body: fn(bytes::Bytes) -> C) -> $Endpoint<S, C> {
                $Endpoint {
                    core: self.core.request_body(request_body),
                }
            }

            /// Sets how many bytes the body of a response may have. Default is 1 MiB.
            ///
            /// More is an error, except in a success whose body does not matter.
            #[must_use]
            pub fn max_response_body(mut self, bytes: usize) -> Self {
                self.core.max_response_body = bytes;
                self
            }

            #[doc = concat!("Allows a plain `http` ", $endpoint, " that is not on this machine. Default is that it is refused.")]
            ///
            /// # Security
            ///
            /// Secrets and tokens cross the network unencrypted, unless something below `S` protects the connection, for example the
            /// sidecar of a mesh.
            #[must_use]
            pub fn danger_allow_http(mut self) -> Self {
                self.core.allow_http = true;
                self
            }

            #[doc = concat!("Returns the URI of the ", $endpoint, ". `None` if it comes from the metadata of the issuer, or is invalid.")]
            #[must_use]
            pub fn uri(&self) -> Option<&http::Uri> {
                self.core.uri()
            }

            /// Returns the issuer, if the endpoint is found in its metadata.
            #[must_use]
            pub fn issuer(&self) -> Option<&str> {
                self.core.issuer()
            }
        }

        crate::authorization_server::endpoint::inner_service!($Endpoint);

        impl<S: Clone, B> crate::TokenEndpoint<S, B> {
            $(#[$accessor_doc])*
            #[must_use]
            #[doc(alias = "discover")]
            pub fn $accessor(&self) -> $Endpoint<S, B> {
                $Endpoint {
                    core: self.core.$other_endpoint(),
                }
            }
        }

        /// By hand, since a body type (axum's, hyper's) need not be `Clone`.
        impl<S: Clone, B> Clone for $Endpoint<S, B> {
            fn clone(&self) -> Self {
                Self {
                    core: self.core.clone(),
                }
            }
        }

        impl<S, B> tower_service::Service<crate::$Request> for $Endpoint<S, B>
        where
            S: crate::HttpService<B>,
            B: 'static,
        {
            type Response = $Response;
            type Error = crate::TokenError;
            type Future = ResponseFuture<S, B>;

            fn poll_ready(
                &mut self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), Self::Error>> {
                self.core.poll_ready::<$Call>(cx)
            }

            fn call(&mut self, request: crate::$Request) -> Self::Future {
                $(let $by = &request;)?
                let call = $call;
                let inner = self.core.call(call, request.into_form());
                ResponseFuture { inner }
            }
        }

        crate::authorization_server::endpoint::response_future! {
            #[doc = concat!("The future of [`", stringify!($Endpoint), "`].")]
            $Call => $Response
        }

        impl<S, B> std::fmt::Debug for $Endpoint<S, B> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.core.fmt(stringify!($Endpoint), f)
            }
        }
    };
}

/// Implements the access to the HTTP service of an endpoint with a `core`.
macro_rules! inner_service {
    ($Endpoint:ident) => {
        impl<S, B> $Endpoint<S, B> {
            /// Returns the HTTP service.
            #[must_use]
            pub fn get_ref(&self) -> &S {
                &self.core.inner
            }

            /// Returns the HTTP service, to change it.
            ///
            /// A change applies to this endpoint, and to the clones that are made of it afterwards. Other clones keep their services,
            /// although they share the metadata of the issuer: the endpoint whose request needs the metadata first fetches them through
            /// its own service.
            #[must_use]
            pub fn get_mut(&mut self) -> &mut S {
                &mut self.core.inner
            }

            /// Returns the HTTP service and drops the rest.
            #[must_use]
            pub fn into_inner(self) -> S {
                self.core.inner
            }
        }
    };
}

pub(crate) use {
    endpoint_service, endpoint_service_parts, inner_service, protected_endpoint_service,
};
