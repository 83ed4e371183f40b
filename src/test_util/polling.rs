//! Device codes (RFC 8628) and CIBA requests: the client polls while the user decides.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use super::{
    Core,
    answer::{OAuthError, json_response, seconds_rounded_up},
    builder::Config,
    client::authenticate,
    form,
    recorded::RecordedRequest,
    state::{Decision, PollKind, PolledRequest, ServerState, has_expired},
};

/// "the interval MUST be increased by 5 seconds for this and all subsequent requests" (RFC 8628 §3.5)
const SLOW_DOWN: Duration = Duration::from_secs(5);

/// No vowels, so that no words appear, and no characters that look alike (RFC 8628 §6.1).
const USER_CODE_LETTERS: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ";

pub(super) fn device_authorization(
    core: &Core,
    base: &str,
    request: &RecordedRequest,
) -> Result<Response<Bytes>, OAuthError> {
    let config = &core.config;
    form::check(request)?;
    let client = authenticate(core, request)?.ok_or(OAuthError::invalid_client(
        false,
        "the request does not identify a client",
    ))?;
    let scope = form::scope(config, request)?;
    let mut state = core.lock();
    let user_code = user_code();
    let device_code = begin(
        config,
        &mut state,
        PollKind::Device,
        client.id,
        scope,
        Some(user_code.clone()),
    );
    let body = json!({
        "device_code": device_code,
        "user_code": user_code,
        "verification_uri": format!("{base}/device"),
        "verification_uri_complete": format!("{base}/device?user_code={user_code}"),
        "expires_in": config.device_code_lifetime.as_secs(),
        "interval": seconds_rounded_up(config.polling_interval),
    });
    Ok(json_response(StatusCode::OK, &body))
}

/// CIBA §7.1 to §7.3. Any user is known, and a signed request is accepted without a look at it.
pub(super) fn backchannel_authentication(
    core: &Core,
    request: &RecordedRequest,
) -> Result<Response<Bytes>, OAuthError> {
    let config = &core.config;
    form::check(request)?;
    let client = authenticate(core, request)?
        .filter(|client| !client.public)
        .ok_or(OAuthError::invalid_client(
            false,
            "backchannel authentication requires an authenticated client",
        ))?;
    let scope = form::scope(config, request)?;
    let hints = ["login_hint", "login_hint_token", "id_token_hint", "request"];
    let hints = hints.iter().filter(|name| request.get(name).is_some());
    if hints.count() != 1 {
        return Err(OAuthError::new(
            "invalid_request",
            "the request must contain exactly one hint of the user",
        ));
    }
    let requested = request
        .get("requested_expiry")
        .and_then(|seconds| seconds.parse().ok())
        .map(Duration::from_secs);
    let lifetime = config.device_code_lifetime;
    let lifetime = requested.map_or(lifetime, |requested| requested.min(lifetime));
    let mut state = core.lock();
    let id = begin(config, &mut state, PollKind::Ciba, client.id, scope, None);
    let expires_at = state.after(lifetime);
    if let Some(poll) = state.polls.get_mut(&id) {
        poll.expires_at = expires_at;
    }
    let body = json!({
        "auth_req_id": id,
        "expires_in": lifetime.as_secs(),
        "interval": seconds_rounded_up(config.polling_interval),
    });
    Ok(json_response(StatusCode::OK, &body))
}

pub(super) fn begin(
    config: &Config,
    state: &mut ServerState,
    kind: PollKind,
    client: String,
    scope: Option<String>,
    user_code: Option<String>,
) -> String {
    let id = state.new_credential(match kind {
        PollKind::Device => "dc",
        PollKind::Ciba => "ciba",
    });
    let poll = PolledRequest {
        kind,
        client,
        user_code,
        scope,
        decision: Decision::Pending,
        interval: config.polling_interval,
        until_approved: config.approve_after_polls,
        last: None,
        expires_at: state.after(config.device_code_lifetime),
    };
    state.polls.insert(id.clone(), poll);
    id
}

/// Returns the scope once the user has approved the request.
pub(super) fn poll(
    state: &mut ServerState,
    kind: PollKind,
    id: &str,
    client: Option<&str>,
) -> Result<Option<String>, OAuthError> {
    let now = state.now();
    let Some(poll) = state.polls.get_mut(id).filter(|poll| poll.kind == kind) else {
        return Err(OAuthError::invalid_grant("the code is unknown"));
    };
    if client != Some(&poll.client) {
        return Err(OAuthError::invalid_grant(
            "the code was issued to another client",
        ));
    }
    if poll.decision == Decision::Redeemed {
        return Err(OAuthError::invalid_grant(
            "the code has already been redeemed",
        ));
    }
    if has_expired(poll.expires_at, now) {
        return Err(OAuthError::new("expired_token", "the code has expired"));
    }
    let last = poll.last.replace(now);
    match &mut poll.until_approved {
        Some(0) if poll.decision == Decision::Pending => poll.decision = Decision::Approved,
        Some(left) => *left = left.saturating_sub(1),
        None => {}
    }
    match poll.decision {
        Decision::Approved => {
            poll.decision = Decision::Redeemed;
            Ok(poll.scope.clone())
        }
        Decision::Denied => Err(OAuthError::new(
            "access_denied",
            "the user denied the request",
        )),
        _ if last.is_some_and(|last| now.duration_since(last) < poll.interval) => {
            poll.interval = poll.interval.saturating_add(SLOW_DOWN);
            Err(OAuthError::new(
                "slow_down",
                "the client polled before the interval had passed",
            ))
        }
        _ => Err(OAuthError::new(
            "authorization_pending",
            "the user has not decided yet",
        )),
    }
}

pub(super) fn decide(
    state: &mut ServerState,
    decision: Decision,
    matches: impl Fn(&str, &PolledRequest) -> bool,
) -> bool {
    let now = state.now();
    let found = state.polls.iter_mut().find(|(id, poll)| {
        matches(id, poll)
            && poll.decision == Decision::Pending
            && !has_expired(poll.expires_at, now)
    });
    match found {
        Some((_, poll)) => {
            poll.decision = decision;
            true
        }
        None => false,
    }
}

fn user_code() -> String {
    let mut letters = (0..8).map(|_| {
        let at = fastrand::usize(..USER_CODE_LETTERS.len());
        USER_CODE_LETTERS.get(at).copied().map_or('X', char::from)
    });
    let first: String = letters.by_ref().take(4).collect();
    let second: String = letters.collect();
    format!("{first}-{second}")
}
