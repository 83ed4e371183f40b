//! Code that a good engineer writes in an afternoon: one token, renewed before it expires by the first caller that notices.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Mutex, RwLock};

use crate::{
    BoxError, Peer, bearer,
    endpoint::{Endpoint, parse},
};

const MARGIN: Duration = Duration::from_secs(60);

struct Held<T> {
    value: HeaderValue,
    renew_at: T,
}

/// A clock whose time can be compared and added to.
pub trait Clock: Send + Sync + 'static {
    type Time: Copy + PartialOrd + Send + Sync + std::ops::Add<Duration, Output = Self::Time>;
    fn now() -> Self::Time;
}

pub struct Precise;

impl Clock for Precise {
    type Time = Instant;

    fn now() -> Instant {
        Instant::now()
    }
}

/// Costs a tenth of [`Precise`] and is up to ten milliseconds late.
pub struct Coarse;

impl Clock for Coarse {
    type Time = Duration;

    fn now() -> Duration {
        let time = clock_gettime(ClockId::MonotonicCoarse);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
    }
}

async fn fetch<C: Clock>(endpoint: &Endpoint) -> Result<Held<C::Time>, BoxError> {
    let sent = C::now();
    let (status, body) = endpoint.answer().await;
    let (token, lifetime) = parse(status, &body)?;
    Ok(Held {
        value: bearer(&token)?,
        renew_at: sent + lifetime.saturating_sub(MARGIN),
    })
}

/// Reads through `ArcSwap`; a mutex admits one renewal at a time.
pub struct Swap<C: Clock>(Arc<SwapInner<C>>);

struct SwapInner<C: Clock> {
    current: ArcSwapOption<Held<C::Time>>,
    renewing: Mutex<()>,
    endpoint: Endpoint,
}

impl<C: Clock> Swap<C> {
    pub fn new(endpoint: &Endpoint) -> Self {
        Self(Arc::new(SwapInner {
            current: ArcSwapOption::empty(),
            renewing: Mutex::new(()),
            endpoint: endpoint.clone(),
        }))
    }

    fn current(&self) -> Option<HeaderValue> {
        let held = self.0.current.load();
        let held = held.as_ref().filter(|held| C::now() < held.renew_at)?;
        Some(held.value.clone())
    }
}

impl<C: Clock> Clone for Swap<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: Clock> Peer for Swap<C> {
    async fn authorization(&self) -> Result<HeaderValue, BoxError> {
        if let Some(value) = self.current() {
            return Ok(value);
        }
        let _renewing = self.0.renewing.lock().await;
        if let Some(value) = self.current() {
            return Ok(value);
        }
        let held = fetch::<C>(&self.0.endpoint).await?;
        let value = held.value.clone();
        self.0.current.store(Some(Arc::new(held)));
        Ok(value)
    }
}

/// Reads through tokio's `RwLock`.
#[derive(Clone)]
pub struct Locked(Arc<LockedInner>);

struct LockedInner {
    current: RwLock<Option<Held<Instant>>>,
    endpoint: Endpoint,
}

impl Locked {
    pub fn new(endpoint: &Endpoint) -> Self {
        Self(Arc::new(LockedInner {
            current: RwLock::new(None),
            endpoint: endpoint.clone(),
        }))
    }
}

impl Peer for Locked {
    async fn authorization(&self) -> Result<HeaderValue, BoxError> {
        let is_fresh = |held: &&Held<Instant>| Instant::now() < held.renew_at;
        if let Some(held) = self.0.current.read().await.as_ref().filter(is_fresh) {
            return Ok(held.value.clone());
        }
        let mut current = self.0.current.write().await;
        if let Some(held) = current.as_ref().filter(is_fresh) {
            return Ok(held.value.clone());
        }
        let held = current.insert(fetch::<Precise>(&self.0.endpoint).await?);
        Ok(held.value.clone())
    }
}
