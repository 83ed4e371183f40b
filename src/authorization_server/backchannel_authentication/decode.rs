//! From the body of a response to the ID of a backchannel authentication request. Pure.

use super::call::BackchannelAuthenticationCall as Call;
use crate::{
    authorization_server::{
        endpoint::{BadAnswer, ERROR_MEMBERS, JsonObject, JsonValue, is_no_error},
        polling::times,
    },
    error::Answer,
    message::PollingTimes,
    secret::AuthReqId,
};

/// The members of CIBA §7.3 and RFC 6749 §5.2.
const MEMBERS: [&str; 4] = [ERROR_MEMBERS[0], "auth_req_id", "expires_in", "interval"];

/// Reads the ID that a successful response carries, and what it says about polling.
pub(super) fn fields(answer: &Answer) -> Result<(AuthReqId, PollingTimes), BadAnswer> {
    let object = JsonObject::read(answer.text(), &MEMBERS)
        .map_err(|error| BadAnswer::unparsed::<Call>(answer, &error))?;
    let [error, auth_req_id, expires_in, interval] = object.values;
    if !error.says_none() && !is_no_error(answer.text()) {
        let what = "returned an error with a status of success";
        return Err(BadAnswer::refusal::<Call>(answer, what));
    }
    if let Some(name) = object.repeated {
        let what = format!("returned the member `{name}` twice");
        return Err(BadAnswer::unusable::<Call>(what));
    }
    match auth_req_id {
        JsonValue::Text(id) if !id.is_empty() => {
            Ok((id.into_owned().into(), times(&expires_in, &interval)))
        }
        _ => Err(BadAnswer::refusal::<Call>(
            answer,
            "returned no `auth_req_id`",
        )),
    }
}
