//! The cache key: digests of what determines a token, the same in all instances.

use aws_lc_rs::digest::{Context, SHA256};

use super::issued_by::{IssuedBy, Kind};
use crate::{
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    error::TokenError,
    message::{Form, Parameter, TokenRequest, is_first_only},
    secret::{Credential, Secret},
    token_store::{TokenKey, VERSION},
};

/// A cache key. It never leaves the process in the clear.
#[derive(Clone, PartialEq, Eq, Hash)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct CacheKey {
    /// What the entry is named after and bound to: the sign-in, or otherwise the same as `token`.
    pub(super) entry: [u8; 32],
    /// Everything that determines the access token.
    pub(super) token: TokenKey,
}

impl CacheKey {
    pub(super) fn is_of_sign_in(&self) -> bool {
        self.entry != self.token
    }
}

/// Returns the cache key of a request.
///
/// The order of parameters counts, but not that of the words in a scope, nor that of headers with different names. Label and context do not
/// count. The text of a provider counts, or the name of the provider if it has one.
///
/// The secret of the endpoint's client does not count, so it can be rotated. That of a client which the request names does: whoever made the
/// request may have guessed it.
///
/// A sign-in has one entry, whatever its access tokens depend on: a refresh token that had two names would be spent twice.
pub(super) async fn cache_key(
    issued_by: &IssuedBy,
    distinguished_by: &str,
    request: &TokenRequest,
) -> Result<CacheKey, TokenError> {
    let token = token_key(issued_by, distinguished_by, request).await?;
    let entry = match request.one_time_parameter() {
        Some(name) => sign_in_key(issued_by, request, name)?,
        None => token,
    };
    Ok(CacheKey { entry, token })
}

/// Identifies a sign-in: where it was made, by which client, and its name. Each instance may know another of its refresh tokens.
fn sign_in_key(
    issued_by: &IssuedBy,
    request: &TokenRequest,
    credential: &str,
) -> Result<[u8; 32], TokenError> {
    let form = request.form();
    let mut key = Writer::new("sign-in");
    match &issued_by.0 {
        Kind::Name(name) => key.text("issued by", name),
        Kind::Endpoint(endpoint) => key.text("endpoint", &endpoint.place),
    }
    let client = form.client_override().or_else(|| issued_by.client());
    key.text("client", client.map_or("", ClientAuthentication::client_id));
    key.place(request);
    let parameter = form.parameters().iter().find(|p| p.name == credential);
    let of_provider = parameter.and_then(|parameter| parameter.value.provider_name());
    match request.get_sign_in().or(of_provider) {
        Some(name) => key.text("sign-in", name),
        None => return Err(sign_in_needs_a_name(credential)),
    }
    Ok(key.finish())
}

fn sign_in_needs_a_name(credential: &str) -> TokenError {
    let message = format!(
        "the sign-in of the `{credential}` has no name, so the instances of this service cannot share its tokens; set one that is the same in all \
         of them and differs for each sign-in, such as the id of a session, with `TokenRequest::sign_in`",
    );
    TokenError::request(message)
}

async fn token_key(
    issued_by: &IssuedBy,
    distinguished_by: &str,
    request: &TokenRequest,
) -> Result<TokenKey, TokenError> {
    let form = request.form();
    let mut key = Writer::new("token");
    key.bytes(&[VERSION]);
    key.text("distinguished by", distinguished_by);
    let named = form.client_override();
    match &issued_by.0 {
        Kind::Name(name) => key.text("issued by", name),
        Kind::Endpoint(endpoint) => {
            key.text("endpoint", &endpoint.place);
            key.text("call", &endpoint.call);
            if endpoint.is_certificate_bound {
                key.text("certificate-bound", "");
            }
            // The endpoint does not add a default scope to these.
            let is_granted = request.carries_one_time_credential();
            let is_sent = |default: &&Parameter| !(is_granted && default.name == "scope");
            for default in endpoint.defaults.iter().filter(is_sent) {
                key.parameter(default).await?;
            }
            if named.is_none() {
                key.client(&endpoint.client);
                if endpoint.client.is_known_by_credential() {
                    key.proof(&endpoint.client).await?;
                }
            }
        }
    }
    if let Some(client) = named {
        key.client(client);
        key.proof(client).await?;
    }
    key.place(request);
    if let Some(thumbprint) = dpop(issued_by, request).map(DpopKey::thumbprint) {
        key.text("dpop", thumbprint);
    }
    // A request that is refused equals none that is sent.
    if let Some(why) = form.invalid() {
        key.text("invalid", why);
    }
    if let Some(name) = form.repeated_name(|_| false) {
        key.text("repeated", name);
    }
    key.headers(form);
    key.parameters(request).await?;
    Ok(key.finish())
}

/// Returns the key to which the token of a request is bound.
pub(super) fn dpop<'a>(issued_by: &'a IssuedBy, request: &'a TokenRequest) -> Option<&'a DpopKey> {
    request.form().dpop_override().or_else(|| issued_by.dpop())
}

/// Each part is written with its length, so that no two keys have the same bytes.
struct Writer(Context);

impl Writer {
    fn new(purpose: &str) -> Self {
        let mut writer = Self(Context::new(&SHA256));
        writer.bytes(purpose.as_bytes());
        writer
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn text(&mut self, kind: &str, text: &str) {
        self.bytes(kind.as_bytes());
        self.bytes(text.as_bytes());
    }

    /// Where the request says that it is to be sent, and what it says is kept apart.
    fn place(&mut self, request: &TokenRequest) {
        if let Some(uri) = request.form().endpoint_override() {
            self.text("request uri", &uri.to_string());
        }
        if let Some(partition) = request.get_partition() {
            self.text("partition", partition);
        }
    }

    fn headers(&mut self, form: &Form) {
        let mut names: Vec<_> = form.headers().keys().collect();
        names.sort_unstable_by_key(|name| name.as_str());
        for name in names {
            for value in form.headers().get_all(name) {
                self.text("header", name.as_str());
                self.bytes(value.as_bytes());
            }
        }
    }

    fn client(&mut self, client: &ClientAuthentication) {
        self.text("client", client.client_id());
        self.text("method", client.method());
        for (is_claim, name, value) in client.assertion_members() {
            self.text(if is_claim { "claim" } else { "header" }, name);
            self.bytes(value.as_bytes());
        }
    }

    /// What only this client has.
    async fn proof(&mut self, client: &ClientAuthentication) -> Result<(), TokenError> {
        if let Some(credential) = client.credential() {
            return self.credential("secret", credential).await;
        }
        match client.key_thumbprint() {
            Some(thumbprint) => self.text("key", thumbprint),
            None if client.signs() => {
                return Err(TokenError::request(
                    "the signer of the client that this request names returns no public key, so the instances of this service cannot tell whether \
                     its tokens are theirs; return it from `Signer::public_key`",
                ));
            }
            None => {}
        }
        Ok(())
    }

    async fn parameters(&mut self, request: &TokenRequest) -> Result<(), TokenError> {
        let is_one_time = request.carries_one_time_credential();
        for parameter in request.form().parameters() {
            // Several refresh tokens continue one sign-in.
            if !(is_one_time && is_first_only(&parameter.name)) {
                self.parameter(parameter).await?;
            }
        }
        Ok(())
    }

    async fn parameter(&mut self, parameter: &Parameter) -> Result<(), TokenError> {
        let name = &*parameter.name;
        match parameter.value.known().map(Secret::expose) {
            Some(scope) if name == "scope" => {
                let mut words: Vec<_> = scope.split(' ').filter(|word| !word.is_empty()).collect();
                words.sort_unstable();
                words.dedup();
                self.text("scope", &words.join(" "));
                Ok(())
            }
            _ => {
                self.text("parameter", name);
                self.credential("value", &parameter.value).await
            }
        }
    }

    async fn credential(&mut self, kind: &str, value: &Credential) -> Result<(), TokenError> {
        match value.provider_name() {
            Some(name) => self.text("provider", name),
            None => {
                let text = value.obtain().await.map_err(TokenError::credential)?;
                self.text(kind, text.expose());
            }
        }
        Ok(())
    }

    fn finish(self) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.finish().as_ref());
        key
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::TokenEndpoint;

    async fn key_of(endpoint: &TokenEndpoint<()>, request: &TokenRequest) -> CacheKey {
        cache_key(&endpoint.into(), "", request).await.unwrap()
    }

    fn basic(id: &'static str, secret: &'static str) -> ClientAuthentication {
        ClientAuthentication::client_secret_basic(id, secret)
    }

    fn endpoint() -> TokenEndpoint<()> {
        TokenEndpoint::new((), "https://as.example/token", basic("orders", "secret"))
    }

    fn request() -> TokenRequest {
        TokenRequest::client_credentials().scope("read write")
    }

    #[tokio::test]
    async fn what_changes_a_token_changes_the_key() {
        let mut seen = HashMap::new();
        let endpoints = [
            ("as it is", endpoint()),
            (
                "another uri",
                TokenEndpoint::new((), "https://as.example/token2", basic("orders", "secret")),
            ),
            (
                "an issuer",
                TokenEndpoint::discover((), "https://as.example/token", basic("orders", "secret")),
            ),
            (
                "another client",
                TokenEndpoint::new((), "https://as.example/token", basic("order", "secret")),
            ),
            (
                "another method",
                TokenEndpoint::new(
                    (),
                    "https://as.example/token",
                    ClientAuthentication::client_secret_post("orders", "secret"),
                ),
            ),
            ("a default", endpoint().default_parameter("audience", "a")),
            (
                "another default",
                endpoint().default_parameter("audience", "b"),
            ),
            ("id token", endpoint().use_id_token()),
        ];
        for (name, endpoint) in endpoints {
            let earlier = seen.insert(key_of(&endpoint, &request()).await, name);
            assert_eq!(earlier, None, "{name}");
        }
        let cc = TokenRequest::client_credentials;
        for (name, request) in [
            ("no scope", cc()),
            ("less scope", cc().scope("read")),
            ("words run together", cc().scope("readwrite")),
            ("resource", request().resource("https://api.example")),
            (
                "two resources",
                request()
                    .resource("https://api.example")
                    .resource("https://b.example"),
            ),
            ("audience", request().audience("https://api.example")),
            ("parameter", request().parameter("tenant", "blue")),
            ("other value", request().parameter("tenant", "red")),
            (
                "name and value run together",
                request().parameter("tenantb", "lue"),
            ),
            ("partition", request().partition("blue")),
            ("invalid endpoint", request().token_endpoint("https:// /")),
            ("invalid header", request().header("x-tenant", "\n")),
            (
                "wrongly repeated",
                request()
                    .parameter("tenant", "blue")
                    .parameter("tenant", "red"),
            ),
            (
                "rightly repeated",
                request()
                    .repeated_parameter("tenant", "blue")
                    .repeated_parameter("tenant", "red"),
            ),
            ("other partition", request().partition("red")),
            ("header", request().header("x-tenant", "blue")),
            ("other header value", request().header("x-tenant", "red")),
            (
                "endpoint",
                request().token_endpoint("https://other.example/token"),
            ),
            (
                "client",
                request().client_authentication(basic("blue", "secret")),
            ),
            (
                "same client, named",
                request().client_authentication(ClientAuthentication::none("orders")),
            ),
            (
                "grant",
                TokenRequest::extension("urn:x").scope("read write"),
            ),
            (
                "password",
                TokenRequest::password("joe", "a").scope("read write"),
            ),
            (
                "other password",
                TokenRequest::password("joe", "b").scope("read write"),
            ),
            (
                "another secret, named",
                request().client_authentication(basic("blue", "guess")),
            ),
            (
                "another secret from a provider",
                request().client_authentication(ClientAuthentication::client_secret_basic(
                    "blue",
                    Credential::env("A").named("guess"),
                )),
            ),
            (
                "a secret as parameter",
                request().parameter("client_secret", "a"),
            ),
            (
                "another secret as parameter",
                request().parameter("client_secret", "b"),
            ),
            (
                "sign-in",
                TokenRequest::refresh_token("r").sign_in("session 7"),
            ),
            (
                "other sign-in",
                TokenRequest::refresh_token("r").sign_in("session 8"),
            ),
            (
                "scope of a sign-in",
                TokenRequest::refresh_token("r")
                    .sign_in("session 7")
                    .scope("a"),
            ),
            (
                "sign-in of a provider",
                TokenRequest::refresh_token(Credential::env("A").named("session 9")),
            ),
        ] {
            let earlier = seen.insert(key_of(&endpoint(), &request).await, name);
            assert_eq!(earlier, None, "{name}");
        }
        let by_name = cache_key(&"as.example".into(), "", &request())
            .await
            .unwrap();
        assert_eq!(seen.insert(by_name, "name"), None);
        let other = cache_key(&(&endpoint()).into(), "thumbprint", &request()).await;
        assert_eq!(seen.insert(other.unwrap(), "thumbprint"), None);
    }

    #[tokio::test]
    async fn what_does_not_change_a_token_does_not_change_the_key() {
        let own = key_of(&endpoint(), &request()).await;
        let rotated = TokenEndpoint::new((), "https://as.example/token", basic("orders", "new"));
        for (name, endpoint, request) in [
            ("secret", rotated, request()),
            (
                "order of words",
                endpoint(),
                TokenRequest::client_credentials().scope("write read"),
            ),
            ("label", endpoint(), request().label("blue")),
            ("context", endpoint(), request().context(7_u8)),
        ] {
            assert_eq!(key_of(&endpoint, &request).await, own, "{name}");
        }
        let two = |a, b| request().header(a, "1").header(b, "2");
        let one_order = two("x-a", "x-b");
        let other_order = request().header("x-b", "2").header("x-a", "1");
        assert_eq!(
            key_of(&endpoint(), &one_order).await,
            key_of(&endpoint(), &other_order).await
        );
    }

    #[tokio::test]
    async fn provider_counts_by_its_text_or_by_its_name() {
        let assertion = |text: &'static str| {
            Credential::from_fn(move || async move { Ok::<_, std::io::Error>(text) })
        };
        let endpoint = endpoint();
        let key = async |credential| key_of(&endpoint, &TokenRequest::jwt_bearer(credential)).await;
        assert_eq!(key(assertion("a")).await, key("a".into()).await);
        assert_ne!(key(assertion("a")).await, key(assertion("b")).await);
        let named = key(assertion("a").named("pod")).await;
        assert_eq!(named, key(assertion("b").named("pod")).await);
        assert_ne!(named, key(assertion("a").named("other")).await);
    }

    #[tokio::test]
    async fn sign_in_needs_a_name() {
        let unnamed: [Credential; 4] = [
            "a text".into(),
            Credential::env("REFRESH_TOKEN"),
            Credential::file("/var/refresh_token"),
            Credential::from_fn(|| async { Ok::<_, std::io::Error>("r") }),
        ];
        for credential in unnamed {
            let request = TokenRequest::refresh_token(credential);
            let issued_by = (&endpoint()).into();
            let error = cache_key(&issued_by, "", &request).await;
            let error = error.map(drop).unwrap_err();
            assert_eq!(error.kind(), crate::TokenErrorKind::Request);
            assert!(
                error.to_string().contains("TokenRequest::sign_in"),
                "{error}"
            );
            key_of(&endpoint(), &request.sign_in("session 7")).await;
        }
    }

    #[tokio::test]
    async fn whatever_continues_a_sign_in_has_its_entry() {
        let named = Credential::env("A").named("session 7");
        let first = key_of(&endpoint(), &TokenRequest::refresh_token(named)).await;
        let rotated = TokenEndpoint::new((), "https://as.example/token", basic("orders", "new"));
        let post = ClientAuthentication::client_secret_post("orders", "secret");
        for (name, endpoint, request) in [
            (
                "code",
                endpoint(),
                TokenRequest::authorization_code("c", "https://app.example"),
            ),
            (
                "another refresh token",
                endpoint(),
                TokenRequest::refresh_token("r7"),
            ),
            (
                "scope",
                endpoint(),
                TokenRequest::refresh_token("r").scope("a"),
            ),
            ("secret", rotated, TokenRequest::refresh_token("r")),
            (
                "method",
                endpoint(),
                TokenRequest::refresh_token("r").client_authentication(post),
            ),
            (
                "default",
                endpoint().default_parameter("audience", "a"),
                TokenRequest::refresh_token("r"),
            ),
        ] {
            let key = key_of(&endpoint, &request.sign_in("session 7")).await;
            assert_eq!(key.entry, first.entry, "{name}");
        }
        for (name, request) in [
            (
                "endpoint",
                TokenRequest::refresh_token("r").token_endpoint("https://b.example"),
            ),
            (
                "partition",
                TokenRequest::refresh_token("r").partition("blue"),
            ),
            (
                "client",
                TokenRequest::refresh_token("r").client_authentication(basic("blue", "secret")),
            ),
        ] {
            let key = key_of(&endpoint(), &request.sign_in("session 7")).await;
            assert_ne!(key.entry, first.entry, "{name}");
        }
    }

    #[cfg(feature = "jwt")]
    #[tokio::test]
    async fn key_and_claims_of_a_client_that_signs_count() {
        use crate::jwt::{ClientAssertion, SigningAlgorithm, SigningKey};

        let signing =
            |key: &SigningKey| ClientAuthentication::private_key_jwt("orders", key.clone());
        let [one, other] = [(); 2].map(|()| SigningKey::generate(SigningAlgorithm::ES256).unwrap());
        let named = async |client| {
            let request = request().client_authentication(client);
            key_of(&endpoint(), &request).await
        };
        let own = named(signing(&one)).await;
        assert_eq!(own, named(signing(&one)).await);
        assert_ne!(own, named(signing(&other)).await);
        // That of the endpoint can be rotated.
        let of_endpoint = async |client| {
            let endpoint = TokenEndpoint::new((), "https://as.example/token", client);
            key_of(&endpoint, &request()).await
        };
        let own = of_endpoint(signing(&one)).await;
        assert_eq!(own, of_endpoint(signing(&other)).await);
        let claim = |value: &str| ClientAssertion::new().claim("tenant", value);
        let header = ClientAssertion::new().header("tenant", "blue");
        let mut seen = vec![own];
        for assertion in [claim("blue"), claim("red"), header] {
            let key = of_endpoint(signing(&one).assertion(assertion)).await;
            assert!(!seen.contains(&key));
            seen.push(key);
        }
    }

    #[cfg(feature = "dpop")]
    #[tokio::test]
    async fn tokens_are_shared_only_among_holders_of_the_key() {
        let (one, other) = (DpopKey::generate().unwrap(), DpopKey::generate().unwrap());
        let own = key_of(&endpoint().dpop(one.clone()), &request()).await;
        assert_eq!(own, key_of(&endpoint().dpop(one.clone()), &request()).await);
        assert_eq!(own, key_of(&endpoint(), &request().dpop(one)).await);
        assert_ne!(own, key_of(&endpoint().dpop(other), &request()).await);
        assert_ne!(own, key_of(&endpoint(), &request()).await);
    }
}
