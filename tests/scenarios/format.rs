//! The format of the scenario files.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tower_oauth2_client::{RefreshWindow, TokenRequest};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) given: Given,
    pub(crate) steps: Vec<Step>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Given {
    pub(crate) request: Option<Request>,
    pub(crate) requests: BTreeMap<String, Request>,
    pub(crate) refresh_window: Option<Window>,
    pub(crate) default_lifetime: Option<Seconds>,
    pub(crate) max_lifetime: Option<Seconds>,
    pub(crate) fetch_timeout: Option<Seconds>,
    pub(crate) endpoint_timeout: Option<Seconds>,
    pub(crate) max_entries: Option<usize>,
    pub(crate) callback_takes: Option<Seconds>,
    pub(crate) secret: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(from = "f64")]
pub(crate) struct Seconds(pub(crate) Duration);

impl From<f64> for Seconds {
    fn from(seconds: f64) -> Self {
        Self(Duration::from_secs_f64(seconds))
    }
}

/// A single value, or a least and a greatest value.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(crate) enum Range<T> {
    Exactly(T),
    Between(T, T),
}

impl<T: Copy> Range<T> {
    pub(crate) fn bounds(self) -> RangeInclusive<T> {
        match self {
            Self::Exactly(value) => value..=value,
            Self::Between(least, greatest) => least..=greatest,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Window {
    Named(NamedWindow),
    Parts {
        first: Range<f64>,
        later: Range<f64>,
    },
}

#[derive(Deserialize)]
pub(crate) enum NamedWindow {
    #[serde(rename = "default")]
    Default,
}

impl Window {
    pub(crate) fn to_refresh_window(&self) -> RefreshWindow {
        match self {
            Self::Named(NamedWindow::Default) => RefreshWindow::new(),
            Self::Parts { first, later } => RefreshWindow::new()
                .first(first.bounds())
                .later(later.bounds()),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Request {
    grant: String,
    /// The credential of the grant, such as a password, a code or a refresh token. Client credentials have none.
    credential: String,
    scope: Option<String>,
    audience: Option<String>,
    parameters: BTreeMap<String, String>,
    token_endpoint: Option<String>,
}

impl Request {
    pub(crate) fn to_token_request(&self) -> TokenRequest {
        let credential = self.credential.as_str();
        let mut request = match self.grant.as_str() {
            "client_credentials" => TokenRequest::client_credentials(),
            "password" => TokenRequest::password("user", credential),
            "authorization_code" => {
                TokenRequest::authorization_code(credential, "https://app.test/callback")
                    .code_verifier("a-verifier-of-no-less-than-forty-three-characters")
            }
            "refresh_token" => TokenRequest::refresh_token(credential),
            "device_code" => TokenRequest::device_code(credential),
            "ciba" => TokenRequest::ciba(credential),
            other => panic!("unknown grant {other:?}"),
        };
        if let Some(scope) = &self.scope {
            request = request.scope(scope.as_str());
        }
        if let Some(audience) = &self.audience {
            request = request.audience(audience);
        }
        for (name, value) in &self.parameters {
            request = request.parameter(name.clone(), value.as_str());
        }
        if let Some(uri) = &self.token_endpoint {
            request = request.token_endpoint(uri);
        }
        request
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) at: Option<Seconds>,
    pub(crate) after: Option<Seconds>,
    #[serde(default)]
    pub(crate) server: Vec<Answer>,
    #[serde(default, rename = "do")]
    pub(crate) action: Action,
    pub(crate) of: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) seconds: Option<Seconds>,
    pub(crate) secret: Option<String>,
    pub(crate) callers: Option<usize>,
    #[serde(rename = "as")]
    pub(crate) call: Option<String>,
    #[serde(default)]
    pub(crate) expect: Expect,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    #[default]
    Nothing,
    Token,
    Renew,
    WarmUp,
    Peek,
    KeepWarm,
    DropCallers,
    Join,
    Subscribe,
    Changed,
    Invalidate,
    InvalidateAll,
    Discard,
    RotateSecret,
    Suspend,
    SetWallClockBack,
    Advance,
    DropSource,
    DropHandles,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Answer {
    pub(crate) token: Option<String>,
    #[serde(deserialize_with = "present")]
    pub(crate) expires_in: Option<Value>,
    #[serde(deserialize_with = "present")]
    pub(crate) refresh_in: Option<Value>,
    pub(crate) refresh_token: Option<String>,
    pub(crate) token_type: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) error_description: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) retry_after: Option<String>,
    pub(crate) date: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) network: Option<Network>,
    pub(crate) delay: Option<Seconds>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Network {
    Refuses,
    Drops,
    Cuts,
    Stalls,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) token: Option<String>,
    pub(crate) no_token: bool,
    pub(crate) kind: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) error_contains: Option<String>,
    pub(crate) waits: Option<Range<Seconds>>,
    pub(crate) fetches: Option<usize>,
    pub(crate) sent: BTreeMap<String, Option<String>>,
    pub(crate) cancelled: Option<usize>,
    pub(crate) stored: Option<Vec<String>>,
    pub(crate) state: Option<String>,
    pub(crate) expires_in: Option<Seconds>,
    #[serde(deserialize_with = "present")]
    pub(crate) last_error: Option<Option<String>>,
}

impl Expect {
    pub(crate) fn is_failure(&self) -> bool {
        self.kind.is_some() || self.error.is_some()
    }

    pub(crate) fn is_outcome(&self) -> bool {
        self.token.is_some() || self.no_token || self.is_failure()
    }
}

/// Makes `null` a value that differs from an absent member.
fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}
