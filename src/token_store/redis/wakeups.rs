//! `Wakeups`: who waits for which channel.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{PushInfo, PushKind, Value};
use tokio::{runtime::Handle, sync::Notify};

use super::shared_connection::SharedConnection;

/// The channels that somebody waits for.
#[derive(Default)]
pub(super) struct Wakeups {
    channels: Mutex<HashMap<Box<str>, Channel>>,
}

#[derive(Clone, Default)]
struct Channel {
    shared: Arc<Shared>,
    waiters: usize,
}

#[derive(Default)]
struct Shared {
    woken: Notify,
    /// The number of the connection that is subscribed. The lock keeps subscribing and unsubscribing in order.
    subscribed: tokio::sync::Mutex<Option<u64>>,
}

/// One who waits for a channel.
pub(super) struct Waiter {
    wakeups: Arc<Wakeups>,
    connection: Arc<SharedConnection>,
    channel: Box<str>,
    shared: Arc<Shared>,
    limit: Duration,
}

impl Wakeups {
    /// Wakes those whom a message concerns. Everybody looks again after the connection is lost.
    pub(super) fn receive(&self, push: &PushInfo) {
        match (&push.kind, push.data.first()) {
            (PushKind::Message, Some(Value::BulkString(channel))) => {
                let channels = self.lock();
                let channel = str::from_utf8(channel).ok();
                if let Some(channel) = channel.and_then(|channel| channels.get(channel)) {
                    channel.shared.woken.notify_waiters();
                }
            }
            (PushKind::Disconnection, _) => {
                for channel in self.lock().values() {
                    channel.shared.woken.notify_waiters();
                }
            }
            _ => {}
        }
    }

    pub(super) fn join(
        self: &Arc<Self>,
        connection: &Arc<SharedConnection>,
        channel: &str,
        limit: Duration,
    ) -> Waiter {
        let mut channels = self.lock();
        let joined = channels.entry(channel.into()).or_default();
        joined.waiters += 1;
        Waiter {
            wakeups: self.clone(),
            connection: connection.clone(),
            channel: channel.into(),
            shared: joined.shared.clone(),
            limit,
        }
    }

    /// The lock is never held across an await.
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a subscription that nobody uses any more.
    async fn leave(
        &self,
        connection: &SharedConnection,
        channel: &str,
        shared: &Shared,
        limit: Duration,
    ) {
        let mut subscribed = shared.subscribed.lock().await;
        let is_used = |channels: &HashMap<Box<str>, Channel>| {
            channels
                .get(channel)
                .is_some_and(|channel| channel.waiters > 0)
        };
        if is_used(&self.lock()) {
            return;
        }
        // Whoever joins meanwhile waits for the lock and subscribes again.
        if let Some(number) = subscribed.take() {
            connection.unsubscribe(limit, channel, number).await;
        }
        let mut channels = self.lock();
        if !is_used(&channels) {
            channels.remove(channel);
        }
    }
}

impl Waiter {
    /// Is ready after a message, also if it arrives before the future is polled.
    pub(super) fn woken(&self) -> impl Future<Output = ()> + '_ {
        self.shared.woken.notified()
    }

    /// Subscribes, if the connection is not yet subscribed. Returns whether it is.
    pub(super) async fn subscribe(&self) -> bool {
        let mut subscribed = self.shared.subscribed.lock().await;
        if subscribed.is_some() && *subscribed == self.connection.number() {
            return true;
        }
        *subscribed = self
            .connection
            .subscribe(self.limit, &self.channel)
            .await
            .ok();
        subscribed.is_some()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        {
            let mut channels = self.wakeups.lock();
            let Some(channel) = channels.get_mut(&self.channel) else {
                return;
            };
            channel.waiters -= 1;
            if channel.waiters > 0 {
                return;
            }
        }
        let (wakeups, connection) = (self.wakeups.clone(), self.connection.clone());
        let (channel, shared) = (self.channel.clone(), self.shared.clone());
        let limit = self.limit;
        // Without a runtime, the subscription ends with the connection.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                wakeups.leave(&connection, &channel, &shared, limit).await;
            });
        }
    }
}
