//! Which names say that the value of a parameter or a header is a secret.

/// Whether the name of a parameter or a header says that its value is a secret.
///
/// A wrong guess hides a value from logs, which is harmless, or shows a secret in them. So the rule hides too much rather than too little.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if is_about_a_secret(&name) {
        return false;
    }
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    PARTS.iter().any(|part| name.contains(part)) || words.any(|word| WORDS.contains(&word))
}

/// Parts of names, also within a word (`apikey`, `mypassword`).
const PARTS: [&str; 20] = [
    "assertion",
    "attest",
    "auth",
    "code",
    "cookie",
    "credential",
    "dpop",
    "jwt",
    "key",
    "otp",
    "passphrase",
    "password",
    "passwd",
    "pwd",
    "saml",
    "secret",
    "session",
    "signature",
    "token",
    "verifier",
];

/// Words that are too short to be looked for within other words.
const WORDS: [&str; 14] = [
    "cvv", "hmac", "mfa", "pass", "pat", "pct", "pin", "proof", "rpt", "sid", "sig", "tan",
    "ticket", "private",
];

/// Whether a name is that of a property of a secret, such as its type, or of a request for access.
fn is_about_a_secret(name: &str) -> bool {
    ["_type", "_format", "_method"]
        .iter()
        .any(|end| name.ends_with(end))
        || name == "authorization_details"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_whether_a_value_is_secret() {
        let secret = [
            "code",
            "code_verifier",
            "device_code",
            "user_code",
            "auth_req_id",
            "refresh_token",
            "subject_token",
            "actor_token",
            "id_token_hint",
            "assertion",
            "client_assertion",
            "password",
            "client_secret",
            "X-API-Key",
            "apikey",
            "otp",
            "totp",
            "mfa",
            "PIN",
            "user-pin",
            "ticket",
            "pct",
            "pwd",
            "sessionId",
            "sid",
            "x-hub-signature-256",
            "cookie",
            "token_type_hint",
        ];
        let readable = [
            "grant_type",
            "scope",
            "resource",
            "audience",
            "username",
            "client_id",
            "tenant",
            "redirect_uri",
            "subject_token_type",
            "requested_token_type",
            "client_assertion_type",
            "code_challenge_method",
            "authorization_details",
            "claims",
            "acr_values",
            "max_age",
            "shipping",
            "opinion",
            "x-request-id",
            "account_id",
            "",
        ];
        for name in secret {
            assert!(is_secret(name), "{name}");
        }
        for name in readable {
            assert!(!is_secret(name), "{name}");
        }
    }
}
