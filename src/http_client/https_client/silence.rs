//! Notices HTTP/2 connections that have fallen silent, without sending pings.
//!
//! 1. A connection is silent while a request waits for the head of its response and nothing is read. If the caller drops that request, the
//!    silence goes on, because nothing shows that the path still works.
//! 2. The check happens when another request starts. So a connection on which one slow request waits is not replaced, unless another
//!    request would have to share it.
//! 3. A silent connection is only taken out of the pool. Its requests in flight go on, so a wrong guess costs one new connection.
//!
//! Over HTTP/1.1 none of this is needed: requests do not share a connection, and hyper closes one whose response was not awaited.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use hyper_util::client::legacy::connect::{CaptureConnection, Connected};
use tokio::time::Instant;

use crate::base::clock::tokio_now;

/// The HTTP/2 connections of a pool.
pub(super) struct Connections {
    max_silence: Option<Duration>,
    open: Mutex<Vec<Weak<Silence>>>,
}

impl Connections {
    pub(super) fn new(max_silence: Option<Duration>) -> Self {
        Self {
            max_silence,
            open: Mutex::default(),
        }
    }

    /// Adds a connection, which ends when the returned object is dropped.
    pub(super) fn add(&self) -> Arc<Silence> {
        let silence = Arc::default();
        if self.max_silence.is_some() {
            lock(&self.open).push(Arc::downgrade(&silence));
        }
        silence
    }

    /// Takes the connections out of the pool that have been silent for too long.
    pub(super) fn abandon_silent(&self) {
        let Some(max_silence) = self.max_silence else {
            return;
        };
        let now = tokio_now();
        lock(&self.open).retain(|silence| {
            silence
                .upgrade()
                .is_some_and(|silence| !silence.abandon_after(max_silence, now))
        });
    }
}

/// Since when a connection has been silent although a request waited for its response.
#[derive(Default)]
pub(super) struct Silence {
    state: Mutex<State>,
    connection: OnceLock<CaptureConnection>,
}

#[derive(Default)]
struct State {
    /// How many requests wait for the head of their response.
    waiting: usize,
    since: Option<Instant>,
}

impl Silence {
    /// A request was handed to the connection.
    pub(super) fn request_sent(self: &Arc<Self>, connection: &CaptureConnection) -> Awaited {
        self.connection.get_or_init(|| connection.clone());
        let mut state = lock(&self.state);
        state.waiting += 1;
        state.since.get_or_insert_with(tokio_now);
        Awaited(self.clone())
    }

    /// Something was read from the connection.
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.since = (state.waiting > 0).then(tokio_now);
    }

    /// Takes the connection out of the pool if it has been silent for `time`, and returns whether it did.
    fn abandon_after(&self, time: Duration, now: Instant) -> bool {
        let since = lock(&self.state).since;
        let is_silent = since.is_some_and(|since| now.duration_since(since) >= time);
        if is_silent
            && let Some(connection) = self.connection.get()
            && let Some(connected) = &*connection.connection_metadata()
        {
            connected.poison();
        }
        is_silent
    }
}

/// A request that waits for the head of its response.
pub(super) struct Awaited(Arc<Silence>);

impl Awaited {
    pub(super) fn is_over(&self, silence: &Arc<Silence>) -> bool {
        Arc::ptr_eq(&self.0, silence)
    }

    /// The response started, or the connection has failed.
    pub(super) fn answered(self) {
        let mut state = lock(&self.0.state);
        state.since = (state.waiting > 1).then(tokio_now);
    }

    /// The response did not start within `limit`. Takes the connection out of the pool unless it served others meanwhile.
    pub(super) fn timed_out(self, limit: Duration) {
        self.0.abandon_after(limit / 2, tokio_now());
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        lock(&self.0.state).waiting -= 1;
    }
}

/// What finds the [`Silence`] of a connection. It must not keep it alive: the silence holds what this is part of.
#[derive(Clone)]
pub(super) struct SilenceOf(pub(super) Weak<Silence>);

impl SilenceOf {
    pub(super) fn find(connected: &Connected) -> Option<Self> {
        let mut extras = http::Extensions::new();
        connected.get_extras(&mut extras);
        extras.remove()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use hyper_util::client::legacy::connect::capture_connection;
    use tokio::time::advance;

    use super::*;

    const MAX: Duration = Duration::from_secs(5);

    fn connection() -> CaptureConnection {
        capture_connection(&mut http::Request::new(()))
    }

    fn is_silent(silence: &Silence) -> bool {
        silence.abandon_after(MAX, tokio_now())
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_is_not_silent() {
        let silence = Silence::default();
        advance(MAX * 10).await;
        assert!(!is_silent(&silence));
        silence.end();
        advance(MAX * 10).await;
        assert!(!is_silent(&silence));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_begins_with_the_first_request_without_a_response() {
        let silence = Arc::new(Silence::default());
        let first = silence.request_sent(&connection());
        advance(MAX - Duration::from_secs(1)).await;
        let second = silence.request_sent(&connection());
        assert!(!is_silent(&silence));
        advance(Duration::from_secs(1)).await;
        assert!(is_silent(&silence));
        // Its callers have given up, which proves nothing.
        drop((first, second));
        assert!(is_silent(&silence));
        silence.end();
        assert!(!is_silent(&silence));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_begins_again_after_each_read_while_a_request_waits() {
        let silence = Arc::new(Silence::default());
        let waiting = silence.request_sent(&connection());
        for _ in 0..3 {
            advance(MAX - Duration::from_secs(1)).await;
            assert!(!is_silent(&silence));
            silence.end();
        }
        advance(MAX).await;
        assert!(is_silent(&silence));
        silence.end();
        let other = silence.request_sent(&connection());
        advance(MAX - Duration::from_secs(1)).await;
        other.answered();
        advance(MAX - Duration::from_secs(1)).await;
        assert!(!is_silent(&silence));
        advance(Duration::from_secs(1)).await;
        assert!(is_silent(&silence));
        waiting.answered();
        advance(MAX * 10).await;
        assert!(!is_silent(&silence));
    }

    #[tokio::test(start_paused = true)]
    async fn pool_keeps_neither_closed_nor_silent_connections() {
        let connections = Connections::new(Some(MAX));
        let [closed, silent, _idle] = [(); 3].map(|()| connections.add());
        let _waiting = silent.request_sent(&connection());
        drop(closed);
        advance(MAX).await;
        connections.abandon_silent();
        assert_eq!(lock(&connections.open).len(), 1);

        let off = Connections::new(None);
        let silent = off.add();
        let _waiting = silent.request_sent(&connection());
        off.abandon_silent();
        assert!(lock(&off.open).is_empty());
    }
}
