//! `Wakeups`: who waits for which channel.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{PushInfo, PushKind, RedisError, Value};
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
    /// The lock keeps subscribing and unsubscribing in order.
    subscription: tokio::sync::Mutex<Subscription>,
}

#[derive(Default)]
struct Subscription {
    /// The number of the connection that may be subscribed.
    sent_to: Option<u64>,
    is_confirmed: bool,
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
            (PushKind::Disconnection, _) => self.wake_all(),
            _ => {}
        }
    }

    pub(super) fn wake_all(&self) {
        for channel in self.lock().values() {
            channel.shared.woken.notify_waiters();
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
    async fn leave(&self, connection: &SharedConnection, channel: &str, shared: &Shared) {
        let mut subscription = shared.subscription.lock().await;
        let is_used = |channels: &HashMap<Box<str>, Channel>| {
            channels
                .get(channel)
                .is_some_and(|channel| channel.waiters > 0)
        };
        if is_used(&self.lock()) {
            return;
        }
        // Whoever joins meanwhile waits for the lock and subscribes again.
        subscription.is_confirmed = false;
        if let Some(number) = subscription.sent_to.take() {
            connection.unsubscribe(channel, number).await;
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
        let mut subscription = self.shared.subscription.lock().await;
        let open = self.connection.number();
        if subscription.is_confirmed && open.is_some() && subscription.sent_to == open {
            return true;
        }
        subscription.is_confirmed = false;
        let sent_to = &mut subscription.sent_to;
        let subscribed = self
            .connection
            .subscribe(self.limit, &self.channel, sent_to);
        match subscribed.await {
            Ok(()) => subscription.is_confirmed = true,
            Err(error) if error.is::<RedisError>() => subscription.sent_to = None,
            // It may still be carried out.
            Err(_) => {}
        }
        subscription.is_confirmed
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
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                wakeups.leave(&connection, &channel, &shared).await;
            })),
            // The subscription ends with the connection.
            Err(_) => drop(wakeups.lock().remove(&channel)),
        }
    }
}
