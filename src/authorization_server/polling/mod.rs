//! Asks the token endpoint again and again until a user has decided: over device codes (RFC 8628) and CIBA requests.

mod pace;
mod times;
mod token_polling;

pub use self::token_polling::TokenPolling;
pub(crate) use self::{
    pace::{PollingInterval, goes_on_after, is_pending},
    times::times,
};
