//! The file `sharing.rs` of a build without the feature `token-store`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{FetchPlan, Fetched, Fetching};
use crate::{
    message::{TokenMark, TokenRequest},
    token_cache::builder::Settings,
};

#[derive(Clone, Copy, Default)]
pub(crate) struct Known(());

impl Known {
    pub(crate) fn note(&mut self, _: Option<Infallible>) {}
}

#[allow(dead_code, reason = "read with the feature `token-store`")]
#[derive(Clone, Copy, Default)]
pub(crate) struct SharedPlan {
    pub(crate) known: Known,
    pub(crate) dropped: Option<TokenMark>,
    pub(crate) failures: u32,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Origin {
    pub(crate) age: Duration,
    pub(crate) is_from_store: bool,
    pub(crate) fence: Option<Infallible>,
}

pub(super) async fn obtain<'a>(
    _: &Arc<Settings>,
    _: &FetchPlan,
    _: &TokenRequest,
    _: bool,
    _: Instant,
    _: &'a (dyn Fn(TokenRequest) -> Fetching<'a> + Send + Sync + 'a),
) -> Option<Fetched> {
    None
}
