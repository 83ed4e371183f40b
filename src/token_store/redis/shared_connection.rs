//! `SharedConnection`: one connection for all operations, which is replaced when it is lost, and a limit for each operation.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::{runtime::Handle, time};

use super::{
    client::{Connection, RedisClient},
    scripts::Call,
    wakeups::Wakeups,
};
use crate::error::{BoxError, OwnError};

/// After so many operations without any answer, the connection is replaced: the network may drop its packets.
const MAX_SILENCES: u32 = 3;

pub(super) struct SharedConnection {
    client: RedisClient,
    wakeups: Arc<Wakeups>,
    state: Mutex<State>,
    /// Held while a task connects.
    connecting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// How many connections there have been.
    number: u64,
    /// Operations in a row that got no answer.
    silences: u32,
}

#[derive(Clone)]
pub(super) struct Open {
    connection: Connection,
    pub(super) number: u64,
}

impl SharedConnection {
    pub(super) fn new(client: RedisClient, wakeups: Arc<Wakeups>) -> Self {
        Self {
            client,
            wakeups,
            state: Mutex::default(),
            connecting: Arc::default(),
        }
    }

    /// Runs a script.
    pub(super) async fn run(
        self: &Arc<Self>,
        limit: Duration,
        call: Call<'_>,
    ) -> Result<Value, BoxError> {
        self.within(limit, async |open: &mut Open| {
            match open.connection.query(&call.by_digest()).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    open.connection.query(&call.by_text()).await
                }
                result => result,
            }
        })
        .await
    }

    /// Subscribes to a channel. Returns the number of the connection: a later one is not subscribed.
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        limit: Duration,
        channel: &str,
    ) -> Result<u64, BoxError> {
        self.within(limit, async |open: &mut Open| {
            open.connection.subscribe(channel).await?;
            Ok(open.number)
        })
        .await
    }

    /// Ends a subscription, if the connection with this number is still open.
    pub(super) async fn unsubscribe(&self, limit: Duration, channel: &str, number: u64) {
        let open = self.lock().open.clone();
        if let Some(mut open) = open.filter(|open| open.number == number) {
            let _ = time::timeout(limit, open.connection.unsubscribe(channel)).await;
        }
    }

    /// Returns the number of the connection, if one is open.
    pub(super) fn number(&self) -> Option<u64> {
        self.lock().open.as_ref().map(|open| open.number)
    }

    async fn within<T>(
        self: &Arc<Self>,
        limit: Duration,
        operation: impl AsyncFnOnce(&mut Open) -> RedisResult<T>,
    ) -> Result<T, BoxError> {
        let attempt = async {
            let mut open = self.open().await?;
            let result = operation(&mut open).await;
            self.note(&open, result.as_ref().err());
            Ok::<_, BoxError>(result?)
        };
        match time::timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => {
                self.note_silence();
                let text = format!("Redis did not answer within {limit:?}");
                Err(OwnError::new(text).into())
            }
        }
    }

    /// Returns the connection, or connects. A dropped caller does not stop that.
    async fn open(self: &Arc<Self>) -> Result<Open, BoxError> {
        if let Some(open) = self.lock().open.clone() {
            return Ok(open);
        }
        let guard = self.connecting.clone().lock_owned().await;
        if let Some(open) = self.lock().open.clone() {
            return Ok(open);
        }
        let runtime = Handle::try_current()
            .map_err(|_| OwnError::new("the Redis store needs a tokio runtime"))?;
        let this = self.clone();
        let connect = runtime.spawn(async move {
            let _guard = guard;
            this.connect().await
        });
        let connected = connect.await;
        Ok(connected.map_err(|_| OwnError::new("connecting to Redis was cancelled"))??)
    }

    async fn connect(&self) -> RedisResult<Open> {
        let wakeups = self.wakeups.clone();
        let connection = self.client.connect(move |push| wakeups.receive(&push));
        let connection = connection.await?;
        let mut state = self.lock();
        state.number += 1;
        state.silences = 0;
        let open = Open {
            connection,
            number: state.number,
        };
        state.open = Some(open.clone());
        Ok(open)
    }

    fn note(&self, open: &Open, error: Option<&RedisError>) {
        let is_lost = error.is_some_and(|error| open.connection.is_lost(error));
        let mut state = self.lock();
        state.silences = 0;
        if is_lost {
            state.open.take_if(|current| current.number == open.number);
        }
    }

    fn note_silence(&self) {
        let mut state = self.lock();
        state.silences += 1;
        if state.silences >= MAX_SILENCES {
            state.silences = 0;
            state.open = None;
        }
    }

    /// The lock is never held across an await.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
