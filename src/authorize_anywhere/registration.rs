//! The metadata of a client that is registered on the fly. Pure.

use http::Uri;

use super::identity::Grant;
use crate::message::ClientMetadata;

/// Fills in what the user's metadata leave out. `methods` are those that the server lists.
pub(super) fn to_register(
    mut metadata: ClientMetadata,
    grant: &Grant,
    methods: Option<&[String]>,
) -> ClientMetadata {
    let redirect_uri = grant.redirect_uri();
    if let Some(redirect_uri) = redirect_uri {
        metadata = metadata.redirect_uri(redirect_uri);
    }
    let has = |metadata: &ClientMetadata, name| metadata.get(name).is_some();
    if !has(&metadata, "grant_types") {
        metadata = metadata.grant_type(grant.grant_type());
        if redirect_uri.is_some() {
            metadata = metadata.grant_type("refresh_token");
        }
    }
    if !has(&metadata, "response_types") && redirect_uri.is_some() {
        metadata = metadata.response_type("code");
    }
    if !has(&metadata, "token_endpoint_auth_method") {
        let may_be_public = !matches!(grant, Grant::ClientCredentials);
        metadata = metadata.token_endpoint_auth_method(method(may_be_public, methods));
    }
    if !has(&metadata, "application_type")
        && let Some(redirect_uri) = redirect_uri
    {
        metadata = metadata.member("application_type", application_type(redirect_uri));
    }
    metadata
}

/// Returns the first method that the server lists. A client of an unknown user should have no secret, which it could not protect.
fn method(may_be_public: bool, listed: Option<&[String]>) -> &'static str {
    let known = ["none", "client_secret_basic", "client_secret_post"];
    let mut known = known.into_iter().skip(usize::from(!may_be_public));
    let default = if may_be_public {
        "none"
    } else {
        "client_secret_basic"
    };
    let Some(listed) = listed else {
        return default;
    };
    let found = known.find(|method| listed.iter().any(|name| name == method));
    found.unwrap_or(default)
}

/// OpenID Connect Dynamic Client Registration §2: "native" for a redirect to this machine or to an app.
fn application_type(redirect_uri: &str) -> &'static str {
    let is_web = redirect_uri.parse::<Uri>().is_ok_and(|uri| {
        let host = uri.host().unwrap_or_default();
        let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        uri.scheme_str() == Some("https") && !is_here
    });
    if is_web { "web" } else { "native" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_method_is_one_that_the_server_lists() {
        let list = |names: &str| names.split_whitespace().map(Into::into).collect::<Vec<_>>();
        for (may_be_public, listed, expected) in [
            (true, None, "none"),
            (true, Some("client_secret_basic none"), "none"),
            (
                true,
                Some("client_secret_post client_secret_basic"),
                "client_secret_basic",
            ),
            (
                true,
                Some("client_secret_post private_key_jwt"),
                "client_secret_post",
            ),
            (true, Some("private_key_jwt"), "none"),
            (false, None, "client_secret_basic"),
            (false, Some("none client_secret_post"), "client_secret_post"),
            (false, Some("none"), "client_secret_basic"),
        ] {
            let listed = listed.map(list);
            assert_eq!(
                method(may_be_public, listed.as_deref()),
                expected,
                "{listed:?}"
            );
        }
    }

    #[test]
    fn redirects_to_this_machine_or_to_an_app_are_native() {
        for (redirect_uri, expected) in [
            ("https://app.example/cb", "web"),
            ("https://localhost/cb", "native"),
            ("http://127.0.0.1:7777/cb", "native"),
            ("http://[::1]/cb", "native"),
            ("com.example.app:/cb", "native"),
            ("http://app.example/cb", "native"),
        ] {
            assert_eq!(application_type(redirect_uri), expected, "{redirect_uri}");
        }
    }

    #[test]
    fn what_the_user_sets_stays() {
        let own = ClientMetadata::new()
            .grant_type("password")
            .token_endpoint_auth_method("x");
        let filled = to_register(own, &Grant::ClientCredentials, None);
        let expected = ClientMetadata::new()
            .grant_type("password")
            .token_endpoint_auth_method("x");
        assert_eq!(filled, expected);
    }
}
