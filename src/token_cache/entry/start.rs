//! Starts a fetch: its plan, and the task that runs it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle};

use super::{Entry, EntryState, FetchOutcome, fetch_task::FetchTask};
use crate::{
    base::{
        clock::Moment,
        single_flight::{Flight, Landing},
    },
    error::TokenError,
    message::TokenRequest,
    token_cache::{
        builder::Settings,
        fetch::{
            self, FetchPlan, Reason,
            heartbeat::{self, Watch},
            limit::Slot,
            sharing::SharedPlan,
        },
        pauses::{FailedFetch, When},
    },
};

impl Entry {
    /// Returns the request of the next fetch, or the error after which none can succeed.
    pub(super) fn next_request(
        &self,
        state: &mut EntryState,
        now: Moment,
    ) -> Result<TokenRequest, TokenError> {
        self.settings.shutdown.check()?;
        let request = state.grant.next_request();
        let request = request.map_err(|error| self.say_whose(error, None));
        request.inspect_err(|end| {
            // So that `TokenCache::status` shows why there is no token.
            let previous = state.failure.as_deref();
            let failure = FailedFetch::after(previous, end.clone(), When::ended(now));
            state.failure = Some(Box::new(failure));
        })
    }

    pub(super) fn plan(&self, state: &mut EntryState, now: Moment, reason: Reason) -> FetchPlan {
        FetchPlan {
            number: state.next_fetch_number(),
            reason,
            delay: state
                .next_fetch_at
                .map_or(Duration::ZERO, |at| now.until(at)),
            may_retry: state.failure.is_none()
                && matches!(reason, Reason::First | Reason::Expired | Reason::Refused),
            owner: state.grant.is_one_time().then(|| self.request.clone()),
            replaced: state.grant.replaced().cloned(),
            old_token: self.current_mark().or(state.dropped),
            under_way: None,
            shared: SharedPlan {
                known: state.known,
                dropped: state.dropped,
                failures: state.failure.as_ref().map_or(0, |failure| failure.streak),
            },
        }
    }

    /// Starts a fetch for which nobody waits yet.
    pub(super) fn start(
        self: &Arc<Self>,
        state: &mut EntryState,
        now: Moment,
        reason: Reason,
        request: TokenRequest,
        slot: Slot,
        runtime: &Handle,
    ) -> Box<FetchTask> {
        let plan = self.plan(state, now, reason);
        let (mut fetch, launch) = self.prepare(plan, request, Flight::new(), slot, now);
        let task = launch.spawn(runtime);
        // A one-time credential gets only one response, so a fetch that spends one is never cancelled.
        fetch.abort = (!state.grant.is_one_time()).then_some(task);
        fetch
    }

    pub(super) fn prepare(
        self: &Arc<Self>,
        plan: FetchPlan,
        request: TokenRequest,
        (flight, landing): (Flight<FetchOutcome>, Landing<FetchOutcome>),
        slot: Slot,
        now: Moment,
    ) -> (Box<FetchTask>, Launch) {
        let limit = plan.delay.saturating_add(self.settings.longest_fetch());
        let overdue_at = now.after(limit);
        slot.observe(&flight, overdue_at, now);
        let fetch = Box::new(FetchTask {
            number: plan.number,
            reason: plan.reason,
            takeovers: 0,
            overdue_at,
            watch: Watch::new(flight.beat(), now),
            flight,
            abort: None,
        });
        let launch = Launch {
            settings: self.settings.clone(),
            entry: Arc::downgrade(self),
            request,
            plan,
            landing,
            slot,
        };
        (fetch, launch)
    }
}

/// A fetch that is ready to be spawned.
pub(super) struct Launch {
    settings: Arc<Settings>,
    entry: Weak<Entry>,
    request: TokenRequest,
    plan: FetchPlan,
    landing: Landing<FetchOutcome>,
    slot: Slot,
}

impl Launch {
    /// Identifies the fetch among all of its entry.
    pub(super) fn number(&self) -> u64 {
        self.plan.number
    }

    pub(super) fn spawn(self, runtime: &Handle) -> AbortHandle {
        let clock = self.settings.clock.clone();
        let pulse = self.landing.pulse();
        let fetch = fetch::run(
            self.settings,
            self.entry,
            self.request,
            self.plan,
            self.landing,
        );
        let fetch = self.slot.run(fetch, move || clock.now());
        runtime
            .spawn(heartbeat::beating(pulse, fetch))
            .abort_handle()
    }
}
