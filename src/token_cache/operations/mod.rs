//! What a service does with a cache as a whole: warm it up, probe its health, shut it down.

mod health;
pub(super) mod shutdown;
mod warm_up;

pub use self::health::TokenHealth;
