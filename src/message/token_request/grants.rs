//! The constructors of `TokenRequest`: one for each grant.

use std::borrow::Cow;

use super::{Form, TokenRequest};
use crate::{
    message::is_first_only,
    secret::{Credential, RefreshToken},
};

/// # Constructors, one for each grant
impl TokenRequest {
    /// Requests a token for the client itself
    /// ([RFC 6749 §4.4](https://www.rfc-editor.org/rfc/rfc6749#section-4.4)).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::client_credentials().scope("api1");
    /// ```
    #[must_use]
    pub fn client_credentials() -> Self {
        Self::extension("client_credentials")
    }

    /// Requests a token with the name and password of a user
    /// ([RFC 6749 §4.3](https://www.rfc-editor.org/rfc/rfc6749#section-4.3)).
    ///
    /// The password may be empty. OAuth 2.1 removes this grant: use it only for old servers.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::password("johndoe", "A3ddj3w");
    /// ```
    pub fn password(username: impl Into<String>, password: impl Into<Credential>) -> Self {
        Self::extension("password")
            .with("username", username.into())
            .with("password", password)
    }

    /// Redeems an authorization code
    /// ([RFC 6749 §4.1.3](https://www.rfc-editor.org/rfc/rfc6749#section-4.1.3)).
    ///
    /// `TokenEndpoint::begin_authorization` (feature `authorization-code`) obtains the code, and makes this request with everything that
    /// belongs to it. Use this constructor for a code from elsewhere. `redirect_uri` is the URI to which that endpoint redirected the user. For a
    /// server that does not accept `redirect_uri` here (OAuth 2.1), use
    /// `TokenRequest::extension("authorization_code").parameter("code", code)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::authorization_code("SplxlOBeZQQYbYS6WxSbIA", "https://app.example/cb")
    ///     .code_verifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    /// ```
    pub fn authorization_code(
        code: impl Into<Credential>,
        redirect_uri: impl Into<String>,
    ) -> Self {
        Self::extension("authorization_code")
            .with("code", code)
            .with("redirect_uri", redirect_uri.into())
    }

    /// Requests a token with a refresh token ([RFC 6749 §6](https://www.rfc-editor.org/rfc/rfc6749#section-6)).
    ///
    /// A server that rotates refresh tokens returns a new one. If
    /// [`TokenResponse::refresh_token`](crate::TokenResponse::refresh_token) is `None`, keep using the old one.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::refresh_token("tGzv3JOkF0XG5Qx2TlKWIA");
    /// ```
    pub fn refresh_token(refresh_token: impl Into<Credential>) -> Self {
        Self::extension("refresh_token").with("refresh_token", refresh_token)
    }

    /// Polls for a token with a device code
    /// ([RFC 8628 §3.4](https://www.rfc-editor.org/rfc/rfc8628#section-3.4)).
    ///
    /// It is for a device code that you have stored, or obtained elsewhere. Otherwise use
    /// [`DeviceAuthorizationResponse::token_request`](crate::DeviceAuthorizationResponse::token_request), which also knows the interval and
    /// the time in which the user has to decide.
    ///
    /// Until the user has decided, the server returns the error [`AUTHORIZATION_PENDING`](crate::ErrorCode::AUTHORIZATION_PENDING), or
    /// [`SLOW_DOWN`](crate::ErrorCode::SLOW_DOWN) if the client polls too often. You need no timer:
    /// [`TokenSource::wait_for_user`](crate::TokenSource::wait_for_user) and [`TokenPolling`](crate::TokenPolling) set the pace.
    ///
    /// # Examples
    ///
    /// Waits until the user has decided. The source renews the token with the refresh token later:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::{TokenCache, TokenError, TokenRequest, TokenSource};
    ///
    /// async fn sign_in(
    ///     tokens: &TokenCache,
    ///     device_code: String,
    ///     interval: Duration,
    /// ) -> Result<TokenSource, TokenError> {
    ///     let request = TokenRequest::device_code(device_code).polling_interval(interval);
    ///     let source = tokens.source(request);
    ///     source.wait_for_user().await?;
    ///     Ok(source)
    /// }
    /// # use tower_oauth2_client::{ClientAuthentication, TokenEndpoint, test_util::AuthorizationServer};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// # let server = AuthorizationServer::new();
    /// # let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// # let cache = TokenCache::new(TokenEndpoint::new(server.clone(), server.token_endpoint(), client));
    /// # assert!(sign_in(&cache, "unknown".into(), Duration::from_secs(5)).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn device_code(device_code: impl Into<Credential>) -> Self {
        Self::extension("urn:ietf:params:oauth:grant-type:device_code")
            .with("device_code", device_code)
    }

    /// Exchanges a token for another token
    /// ([RFC 8693 §2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.1)).
    ///
    /// With an [actor token](Self::actor_token) this is delegation, otherwise impersonation.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::token_exchange(
    ///     "accVkjcJyb4BWCxGsndESCJQbdFMogUC5PbRDqceLTC",
    ///     "urn:ietf:params:oauth:token-type:access_token",
    /// )
    /// .audience("backend");
    /// ```
    pub fn token_exchange(
        subject_token: impl Into<Credential>,
        subject_token_type: impl Into<String>,
    ) -> Self {
        Self::extension("urn:ietf:params:oauth:grant-type:token-exchange")
            .with("subject_token", subject_token)
            .with("subject_token_type", subject_token_type.into())
    }

    /// Requests a token with a JWT as the grant ([RFC 7523 §2.1](https://www.rfc-editor.org/rfc/rfc7523#section-2.1)).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{Credential, TokenRequest};
    ///
    /// let request = TokenRequest::jwt_bearer(Credential::file("/var/run/secrets/tokens/oauth"));
    /// ```
    pub fn jwt_bearer(assertion: impl Into<Credential>) -> Self {
        Self::extension("urn:ietf:params:oauth:grant-type:jwt-bearer").with("assertion", assertion)
    }

    /// Requests a token with a SAML 2.0 assertion, base64url-encoded, as the grant
    /// ([RFC 7522 §2.1](https://www.rfc-editor.org/rfc/rfc7522#section-2.1)).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::saml2_bearer("PHNhbWxwOl...");
    /// ```
    pub fn saml2_bearer(assertion: impl Into<Credential>) -> Self {
        Self::extension("urn:ietf:params:oauth:grant-type:saml2-bearer")
            .with("assertion", assertion)
    }

    /// Polls for a token with the id of a backchannel authentication request
    /// ([OpenID Connect CIBA §10.1](https://openid.net/specs/openid-client-initiated-backchannel-authentication-core-1_0.html#token_request)).
    ///
    /// It is for an ID that you have stored, or obtained elsewhere. Otherwise use
    /// [`BackchannelAuthenticationResponse::token_request`](crate::BackchannelAuthenticationResponse::token_request). Wait for the user as
    /// with a [device code](Self::device_code).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::ciba("1c266114-a1be-4252-8ad1-04986c5b9ac1");
    /// ```
    pub fn ciba(auth_req_id: impl Into<Credential>) -> Self {
        Self::extension("urn:openid:params:grant-type:ciba").with("auth_req_id", auth_req_id)
    }

    /// Uses another grant, identified by its type
    /// ([RFC 6749 §4.5](https://www.rfc-editor.org/rfc/rfc6749#section-4.5)).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::extension("urn:example:grant-type:badge").parameter("badge", "7");
    /// ```
    pub fn extension(grant_type: impl Into<Cow<'static, str>>) -> Self {
        Self(Form::default()).with("grant_type", grant_type.into().into_owned())
    }
}

impl TokenRequest {
    /// Creates the request that refreshes the token of this request.
    ///
    /// It keeps the headers, the overrides and the parameters, except for the one-time credentials and what belongs to them.
    pub(crate) fn continued_by(&self, refresh_token: RefreshToken) -> Self {
        let mut request = Self::refresh_token(refresh_token);
        request.0.take_over(&self.0, |name| !is_first_only(name));
        request
    }
}
