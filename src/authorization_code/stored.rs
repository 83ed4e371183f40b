//! A `PendingAuthorization` as text, between two HTTP requests of a browser.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{AuthorizationError, AuthorizationErrorKind, PendingAuthorization, pending::Sent};
use crate::secret::Secret;

/// The version of the format. A text of another version is refused, so that no member is misread.
const VERSION: u64 = 1;

/// # Between two HTTP requests
impl PendingAuthorization {
    /// Writes everything that is needed when the browser returns, as letters, digits, `-` and `_`.
    ///
    /// It is about 500 characters, so it fits into a cookie. A DPoP key is not in it: see [`dpop`](Self::dpop).
    ///
    /// # Security
    ///
    /// The text is readable (base64url of JSON), and two things about it must be protected:
    ///
    /// * It contains the PKCE verifier, the `state` and the `nonce`. Whoever has the verifier and the code of a public client can redeem
    ///   the code. So store it on the server, or encrypt the cookie.
    /// * Whoever can replace it can sign the user in as somebody else. So bind it to the browser: a session, or an authenticated cookie
    ///   (`Secure`, `HttpOnly`, a lifetime of minutes; `SameSite=Lax`, or `None` for the response mode `form_post`).
    ///
    /// Delete it when the browser returns, before you accept the response: only then is a second response refused. A cookie cannot be deleted
    /// in time if the browser sends two requests at once. A [`TokenCache`](crate::TokenCache) then still redeems the code once, and both
    /// requests get its token. With two processes, the server refuses the second token request, and may revoke the tokens of the first
    /// ([RFC 6749 §4.1.2](https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2)); a session on the server avoids that.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use tower_oauth2_client::{
    ///     BoxError, TokenRequest,
    ///     authorization_code::{AuthorizationResponse, PendingAuthorization},
    /// };
    ///
    /// /// What a web framework keeps for one browser.
    /// type Session = HashMap<String, String>;
    ///
    /// fn begin(session: &mut Session, pending: &PendingAuthorization) {
    ///     session.insert(pending.state().to_owned(), pending.to_secret_string());
    /// }
    ///
    /// fn callback(session: &mut Session, query: &str) -> Result<TokenRequest, BoxError> {
    ///     let response = AuthorizationResponse::from_query(query);
    ///     let state = response.state().ok_or("no sign-in")?;
    ///     let pending = session.remove(state).ok_or("no sign-in, or a second response")?;
    ///     Ok(PendingAuthorization::from_secret_string(&pending)?.accept(&response)?)
    /// }
    /// ```
    #[must_use]
    pub fn to_secret_string(&self) -> String {
        let sent = &self.sent;
        let json = json!({
            "v": VERSION,
            "state": sent.state,
            "nonce": sent.nonce,
            "code_verifier": sent.code_verifier.expose(),
            "client_id": sent.client_id,
            "redirect_uri": sent.redirect_uri,
            "issuer": sent.issuer.as_deref(),
            "requires_iss": sent.requires_iss,
            "max_age": sent.max_age.map(|age| age.as_secs()),
            "dpop_jkt": sent.dpop_jkt,
            "is_used": self.is_used,
        });
        BASE64_URL_SAFE_NO_PAD.encode(json.to_string())
    }

    /// Reads what [`to_secret_string`](Self::to_secret_string) wrote.
    ///
    /// # Errors
    ///
    /// [`AuthorizationErrorKind::InvalidPending`] for any other text, and for one that another version of this crate wrote and that this
    /// version does not understand. Start the sign-in again then.
    pub fn from_secret_string(text: &str) -> Result<Self, AuthorizationError> {
        let invalid = || {
            AuthorizationError::new(
                AuthorizationErrorKind::InvalidPending,
                "the stored text is no pending authorization of this version; start the sign-in again",
            )
        };
        let json = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let json: Value = serde_json::from_slice(&json).map_err(|_| invalid())?;
        read(&json).ok_or_else(invalid)
    }
}

fn read(json: &Value) -> Option<PendingAuthorization> {
    let text = |name: &str| Some(json.get(name)?.as_str()?.to_owned());
    let optional = |name: &str| match json.get(name)? {
        Value::Null => Some(None),
        value => Some(Some(value.as_str()?.to_owned())),
    };
    let flag = |name: &str| json.get(name)?.as_bool();
    if json.get("v")?.as_u64()? != VERSION {
        return None;
    }
    let sent = Sent {
        // An empty one would equal a missing one.
        state: text("state").filter(|state| !state.is_empty())?,
        nonce: optional("nonce")?,
        code_verifier: Secret::new(text("code_verifier")?),
        client_id: text("client_id")?,
        redirect_uri: text("redirect_uri")?,
        issuer: optional("issuer")?.map(Into::into),
        requires_iss: flag("requires_iss")?,
        max_age: match json.get("max_age")? {
            Value::Null => None,
            age => Some(Duration::from_secs(age.as_u64()?)),
        },
        dpop_jkt: optional("dpop_jkt")?,
    };
    Some(PendingAuthorization {
        is_used: flag("is_used")?,
        ..PendingAuthorization::new(sent, None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Value {
        json!({
            "v": 1, "state": "s", "nonce": "n", "code_verifier": "v", "client_id": "c",
            "redirect_uri": "r", "issuer": "i", "requires_iss": true, "max_age": 7,
            "dpop_jkt": "j", "is_used": true,
        })
    }

    #[test]
    fn every_member_survives() {
        for mut json in [full(), full()] {
            for (name, value) in [("nonce", Value::Null), ("is_used", false.into())] {
                let text = BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
                let pending = PendingAuthorization::from_secret_string(&text).unwrap();
                let again = BASE64_URL_SAFE_NO_PAD
                    .decode(pending.to_secret_string())
                    .unwrap();
                assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), json);
                json[name] = value;
            }
        }
    }

    #[test]
    fn any_other_text_is_refused() {
        let refused = |text: &str| {
            let error = PendingAuthorization::from_secret_string(text).unwrap_err();
            assert_eq!(error.kind(), AuthorizationErrorKind::InvalidPending);
        };
        for text in ["", "e30", "bnVsbA", "!", "W10", "<html>", " e30"] {
            refused(text);
        }
        let members = full();
        for name in members.as_object().unwrap().keys() {
            for wrong in [None, Some(json!([])), Some(json!(-1))] {
                let mut json = members.clone();
                match wrong {
                    None => drop(json.as_object_mut().unwrap().remove(name)),
                    Some(wrong) => json[name] = wrong,
                }
                refused(&BASE64_URL_SAFE_NO_PAD.encode(json.to_string()));
            }
        }
        for (name, value) in [("v", json!(2)), ("state", json!(""))] {
            let mut json = members.clone();
            json[name] = value;
            refused(&BASE64_URL_SAFE_NO_PAD.encode(json.to_string()));
        }
        let text = BASE64_URL_SAFE_NO_PAD.encode(members.to_string());
        refused(&text[..text.len() - 4]);
        refused(&format!("{text}AAAA"));
    }
}
