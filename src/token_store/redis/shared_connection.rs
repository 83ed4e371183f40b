//! `SharedConnection`: one connection for all operations, which is replaced when it is lost, and a limit for each operation.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{ErrorKind, PushInfo, PushKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::{runtime::Handle, sync::watch, time};

use super::{
    client::{Connection, RedisClient},
    connecting::{Connecting, Next, Silences},
    scripts::Call,
    wakeups::Wakeups,
};
use crate::{
    base::clock::tokio_now,
    error::{BoxError, OwnError},
};

/// How long an attempt to connect may take. Several sentinels may be asked.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
/// How long ending a subscription may take. Nobody waits for it.
const UNSUBSCRIBE_LIMIT: Duration = Duration::from_secs(10);

pub(super) struct SharedConnection {
    client: RedisClient,
    wakeups: Arc<Wakeups>,
    /// The lock is never held across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    connecting: Connecting<RedisResult<Open>>,
    silences: Silences,
}

#[derive(Clone)]
pub(super) struct Open {
    connection: Connection,
    pub(super) number: u64,
}

enum Operation<'a> {
    Run(Call<'a>),
    Subscribe {
        channel: &'a str,
        sent_to: &'a mut Option<u64>,
    },
}

impl SharedConnection {
    pub(super) fn new(client: RedisClient, wakeups: Arc<Wakeups>) -> Self {
        Self {
            client,
            wakeups,
            state: Mutex::default(),
        }
    }

    /// Runs a script.
    pub(super) async fn run(
        self: &Arc<Self>,
        limit: Duration,
        call: Call<'_>,
    ) -> Result<Value, BoxError> {
        self.within(limit, Operation::Run(call)).await
    }

    /// Subscribes to a channel. Before that, sets `sent_to` to the number of the connection: a later one is not subscribed.
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        limit: Duration,
        channel: &str,
        sent_to: &mut Option<u64>,
    ) -> Result<(), BoxError> {
        let operation = Operation::Subscribe { channel, sent_to };
        self.within(limit, operation).await.map(drop)
    }

    /// Ends a subscription, if the connection with this number is still open.
    pub(super) async fn unsubscribe(&self, channel: &str, number: u64) {
        let open = self.lock().open.clone();
        if let Some(mut open) = open.filter(|open| open.number == number) {
            let _ = time::timeout(UNSUBSCRIBE_LIMIT, open.connection.unsubscribe(channel)).await;
        }
    }

    /// Returns the number of the connection, if one is open.
    pub(super) fn number(&self) -> Option<u64> {
        self.lock().open.as_ref().map(|open| open.number)
    }

    async fn within(
        self: &Arc<Self>,
        limit: Duration,
        mut operation: Operation<'_>,
    ) -> Result<Value, BoxError> {
        let attempt = async {
            let mut unanswered = Unanswered {
                connection: self,
                begun: tokio_now(),
                number: None,
            };
            // A connection that has been idle may be dead, which only the next operation finds out. Operations may be repeated.
            let idle = self.lock().open.clone();
            if let Some(mut open) = idle {
                unanswered.number = Some(open.number);
                let result = operation.run_on(&mut open).await;
                unanswered.number = None;
                let is_lost = self.note(&open, result.as_ref().err());
                if !is_lost {
                    return Ok(result?);
                }
            }
            let mut open = self.open().await?;
            unanswered.number = Some(open.number);
            let result = operation.run_on(&mut open).await;
            unanswered.number = None;
            self.note(&open, result.as_ref().err());
            Ok::<_, BoxError>(result?)
        };
        match time::timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!("Redis did not answer within {limit:?}");
                Err(OwnError::new(text).into())
            }
        }
    }

    /// Returns the connection, or connects. A dropped caller does not stop that, and all callers share one attempt.
    async fn open(self: &Arc<Self>) -> Result<Open, BoxError> {
        let mut outcome = {
            let mut state = self.lock();
            if let Some(open) = &state.open {
                return Ok(open.clone());
            }
            match state.connecting.next(tokio_now(), ATTEMPT_LIMIT) {
                Next::Wait(outcome) => outcome,
                Next::Connect(number, sender) => {
                    let outcome = sender.subscribe();
                    let runtime = Handle::try_current()
                        .map_err(|_| OwnError::new("the Redis store needs a tokio runtime"))?;
                    runtime.spawn(self.clone().connect(number, sender));
                    outcome
                }
            }
        };
        let outcome = outcome.wait_for(Option::is_some).await;
        let outcome = outcome.map_err(|_| OwnError::new("connecting to Redis was cancelled"))?;
        match &*outcome {
            Some(Ok(open)) => Ok(open.clone()),
            Some(Err(error)) => Err(error.clone().into()),
            None => Err(OwnError::new("connecting to Redis was cancelled").into()),
        }
    }

    async fn connect(
        self: Arc<Self>,
        number: u64,
        sender: watch::Sender<Option<RedisResult<Open>>>,
    ) {
        let (this, wakeups) = (Arc::downgrade(&self), self.wakeups.clone());
        let connect = self.client.connect(move |push: PushInfo| {
            wakeups.receive(&push);
            if let (PushKind::Disconnection, Some(this)) = (&push.kind, this.upgrade()) {
                this.disconnected(number);
            }
        });
        let connected = match time::timeout(ATTEMPT_LIMIT, connect).await {
            Ok(connected) => connected,
            Err(elapsed) => Err(RedisError::from(std::io::Error::from(elapsed))),
        };
        let connected = connected.map(|connection| Open { connection, number });
        {
            let mut state = self.lock();
            let is_last = state
                .connecting
                .note(tokio_now(), number, connected.is_ok());
            if let (true, Ok(open)) = (is_last, &connected) {
                state.open = Some(open.clone());
            }
        }
        let _ = sender.send(Some(connected));
    }

    /// Returns whether the connection was lost.
    fn note(&self, open: &Open, error: Option<&RedisError>) -> bool {
        let is_lost = error.is_some_and(|error| open.connection.is_lost(error));
        match is_lost {
            true => self.lose(open.number),
            false => self.lock().silences.end(),
        }
        is_lost
    }

    fn note_silence(&self, number: u64, begun: time::Instant) {
        let is_lost = {
            let mut state = self.lock();
            let is_open = state.open.as_ref().map(|open| open.number) == Some(number);
            is_open && state.silences.note(begun, tokio_now())
        };
        if is_lost {
            self.lose(number);
        }
    }

    /// A cluster repairs the connections to its nodes itself.
    fn disconnected(&self, number: u64) {
        let is_server = {
            let state = self.lock();
            let open = state.open.as_ref();
            open.is_some_and(|open| matches!(open.connection, Connection::Server(..)))
        };
        if is_server {
            self.lose(number);
        }
    }

    fn lose(&self, number: u64) {
        let lost = self.lock().open.take_if(|open| open.number == number);
        if lost.is_some() {
            // Nobody is subscribed any more.
            self.wakeups.wake_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation that has got no answer when this is dropped, because it or its caller took too long.
struct Unanswered<'a> {
    connection: &'a SharedConnection,
    begun: time::Instant,
    /// The connection that it was sent on.
    number: Option<u64>,
}

/// An operation that was cancelled sooner says nothing about the connection.
const SILENT: Duration = Duration::from_millis(50);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number
            && tokio_now() - self.begun >= SILENT
        {
            self.connection.note_silence(number, self.begun);
        }
    }
}

impl Operation<'_> {
    async fn run_on(&mut self, open: &mut Open) -> RedisResult<Value> {
        let connection = &mut open.connection;
        match self {
            Self::Run(call) => match connection.query(&call.by_digest()).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    connection.query(&call.by_text()).await
                }
                result => result,
            },
            Self::Subscribe { channel, sent_to } => {
                **sent_to = Some(open.number);
                connection.subscribe(channel).await?;
                Ok(Value::Okay)
            }
        }
    }
}
