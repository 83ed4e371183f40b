//! The documented behaviour of the cache, as a small state machine.
//!
//! Time is in milliseconds, on two clocks. What the docs leave to chance (such as the length of the pause after a failure) is a
//! choice. [`Choices`] makes these choices, and the comparison tries all of them.

/// A point in time, on the monotonic and on the wall clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moment {
    pub(crate) monotonic: i64,
    pub(crate) wall: i64,
}

impl Moment {
    pub(crate) fn after(self, time: i64) -> Self {
        Self {
            monotonic: self.monotonic + time,
            wall: self.wall + time,
        }
    }

    /// Either clock is enough.
    pub(crate) fn has_reached(self, deadline: Self) -> bool {
        self.monotonic >= deadline.monotonic || self.wall >= deadline.wall
    }

    /// Returns the elapsed time on the clock that moved further.
    fn since(self, then: Self) -> i64 {
        (self.monotonic - then.monotonic).max(self.wall - then.wall)
    }
}

/// How the server answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    Token,
    Transient,
    Terminal,
    RetryAfter(i64),
    Silent,
}

/// The state of the server when a request arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) mode: Mode,
    pub(crate) latency: i64,
    pub(crate) lifetime: i64,
    pub(crate) refresh_in: Option<i64>,
}

/// A token request that the real server received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: i64,
}

/// What a caller gets, with the number of the request that returned the token or the error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Output {
    Token(usize),
    /// The error of a request, or `None` for a timeout.
    Error(Option<usize>),
    /// The API refused this token, and no other could be had.
    Refused(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Caller {
    /// `TokenSource::token`.
    Token,
    /// `TokenSource::renew`.
    Renew,
    /// A request through the layer, which resends it if its token is refused.
    Request,
    /// A resent request, with the token that was refused.
    ResentRequest(usize),
}

#[derive(Clone, Debug)]
struct Token {
    id: usize,
    stale: Moment,
    end: Moment,
    /// Half of its lifetime.
    middle: Moment,
    standing: Standing,
    /// When its request was sent.
    sent: Moment,
}

/// What the API has said to the token.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Standing {
    Unknown,
    Accepted,
    /// It was accepted, refused, and kept to see what the API says next.
    Probed,
}

#[derive(Clone, Debug)]
struct Failure {
    output: Output,
    at: Moment,
    streak: u32,
    /// The pause lasts longer than `longer_than` and no longer than `at_most`.
    longer_than: i64,
    at_most: i64,
    /// Whether the server set the pause with `Retry-After`.
    is_retry_after: bool,
}

#[derive(Clone, Debug)]
struct Fetch {
    may_retry: bool,
    waiters: Vec<usize>,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Not sent until one second has passed since the last request, or until a replica could use its token. Sent by `latest`.
    Waiting { until: i64, latest: i64 },
    /// Waits for the answer, which arrives at `answer_at`, or for the fetch timeout at `deadline`.
    Sent {
        id: usize,
        sent: Moment,
        server: Server,
        answer_at: i64,
        deadline: i64,
    },
    /// The first attempt failed, and the second follows after a short pause.
    Pausing { failed_at: i64, deadline: i64 },
}

/// Decides what the docs leave open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    decisions: Vec<bool>,
    used: usize,
}

impl Choices {
    fn next(&mut self) -> bool {
        if self.used == self.decisions.len() {
            self.decisions.push(false);
        }
        self.used += 1;
        self.decisions[self.used - 1]
    }

    /// Returns the next choices to try, if any are left.
    pub(crate) fn advance(mut self) -> Option<Self> {
        self.decisions.truncate(self.used);
        while let Some(last) = self.decisions.pop() {
            if !last {
                self.decisions.push(true);
                self.used = 0;
                return Some(self);
            }
        }
        None
    }
}

/// A cache with one source, and a layer that uses it.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    token: Option<Token>,
    has_renewed: bool,
    failure: Option<Failure>,
    fetch: Option<Fetch>,
    /// The next fetch is sent between these moments, if somebody needs it.
    next_fetch: Option<[Moment; 2]>,
    refusals: Refusals,
    callers: Vec<(Caller, Option<Output>)>,
    /// The number of token requests so far.
    sent: usize,
    revoked: Vec<usize>,
    /// How far the wall clock is ahead of the monotonic clock.
    wall_offset: i64,
}

#[derive(Clone, Debug, Default)]
struct Refusals {
    streak: u32,
    last: Option<Moment>,
    pause_until: Option<Moment>,
    /// Whether the API caused the last replacement of the streak.
    is_streak_of_api: bool,
    /// How many tokens were replaced in spite of a pause, because another replica seems to revoke them.
    contested: u32,
    /// How many young tokens were replaced since the last probe.
    replaced: u32,
    last_replaced: Option<Moment>,
    /// Until when acceptance by the API proves nothing.
    unreliable_until: Option<Moment>,
}

/// How the real cache differs from a model.
pub(crate) type Mismatch = String;

const FETCH_TIMEOUT: i64 = 30_000;
const SPACING: i64 = 1_000;
const FIRST: f64 = 0.5;
const LATER: f64 = 0.75;

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            token: None,
            has_renewed: false,
            failure: None,
            fetch: None,
            next_fetch: None,
            refusals: Refusals::default(),
            callers: Vec::new(),
            sent: 0,
            revoked: Vec::new(),
            wall_offset: 0,
        }
    }

    /// Returns the output of each caller so far, or `None` if it is still waiting.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = Option<Output>> + '_ {
        self.callers.iter().map(|(_, output)| *output)
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent
    }

    pub(crate) fn peek(&self, now: i64) -> Option<usize> {
        let now = self.at(now);
        let token = self.token.as_ref()?;
        (!now.has_reached(token.end)).then_some(token.id)
    }

    pub(crate) fn move_wall(&mut self, by: i64) {
        self.wall_offset += by;
    }

    /// Revokes every token so far.
    pub(crate) fn revoke(&mut self) {
        self.revoked = (0..self.sent).collect();
    }

    fn at(&self, monotonic: i64) -> Moment {
        Moment {
            monotonic,
            wall: monotonic + self.wall_offset,
        }
    }
}

/// Callers.
impl Model {
    pub(crate) fn call(&mut self, now: i64, caller: Caller, choices: &mut Choices) {
        self.callers.push((caller, None));
        self.request_token(now, self.callers.len() - 1, choices);
    }

    fn request_token(&mut self, now: i64, caller: usize, choices: &mut Choices) {
        let at = self.at(now);
        if self.callers[caller].0 == Caller::Renew {
            let is_retry_after = self
                .failure
                .as_ref()
                .is_some_and(|failure| failure.is_retry_after);
            if is_retry_after && self.is_pausing(at, choices) {
                let output = self.failure.as_ref().map(|failure| failure.output);
                return self.deliver(now, caller, output.unwrap(), choices);
            }
            return self.join(now, caller, false);
        }
        if let Some(token) = self
            .token
            .clone()
            .filter(|token| !at.has_reached(token.end))
        {
            // A stale token is served while one renewal runs in the background, except during a pause.
            if at.has_reached(token.stale) && self.fetch.is_none() && !self.is_pausing(at, choices)
            {
                self.start(now, false);
            }
            return self.deliver(now, caller, Output::Token(token.id), choices);
        }
        if self.is_pausing(at, choices) {
            let output = self.failure.as_ref().map(|failure| failure.output);
            return self.deliver(now, caller, output.unwrap(), choices);
        }
        self.join(now, caller, true);
    }

    fn deliver(&mut self, now: i64, caller: usize, output: Output, choices: &mut Choices) {
        let output = match (self.callers[caller].0, output) {
            (Caller::Request, Output::Token(id)) if self.revoked.contains(&id) => {
                if !self.refuse(now, id) {
                    Output::Refused(id)
                } else {
                    self.callers[caller].0 = Caller::ResentRequest(id);
                    return self.request_token(now, caller, choices);
                }
            }
            (Caller::ResentRequest(refused), Output::Error(_)) => Output::Refused(refused),
            (Caller::ResentRequest(_), Output::Token(id)) if self.revoked.contains(&id) => {
                self.refuse(now, id);
                Output::Refused(id)
            }
            (Caller::Request | Caller::ResentRequest(_), Output::Token(id)) => {
                self.accept(now, id);
                Output::Token(id)
            }
            (_, output) => output,
        };
        self.callers[caller].1 = Some(output);
    }

    /// The API accepted this token.
    fn accept(&mut self, now: i64, id: usize) {
        let at = self.at(now);
        let Some(token) = self.token.as_mut().filter(|token| token.id == id) else {
            return;
        };
        match token.standing {
            Standing::Accepted => {}
            Standing::Probed => self.refusals.unreliable_until = Some(at.after(900_000)),
            Standing::Unknown => self.refusals.end_streak_of_api(at),
        }
        token.standing = Standing::Accepted;
    }

    /// The API refused this token. Returns whether it may be replaced.
    fn refuse(&mut self, now: i64, id: usize) -> bool {
        let at = self.at(now);
        let Some(token) = self.token.as_mut().filter(|token| token.id == id) else {
            return true;
        };
        let is_good = match token.standing {
            Standing::Unknown => false,
            Standing::Accepted => !self.refusals.is_unreliable(at),
            Standing::Probed => true,
        };
        if at.has_reached(token.middle) {
            self.clear();
            return true;
        }
        if self
            .refusals
            .is_probe(at, is_good && token.standing == Standing::Accepted)
        {
            token.standing = Standing::Probed;
            return false;
        }
        let is_contested = at.monotonic - token.sent.monotonic < 2_000
            && self
                .refusals
                .last_replaced
                .is_some_and(|last| !at.has_reached(last.after(4_000)));
        let is_pausing = !is_good && self.refusals.is_pausing(at);
        let is_free = self.refusals.streak == 2 && self.refusals.contested < 2;
        if is_pausing && !(is_contested && is_free) {
            return false;
        }
        if is_pausing {
            self.refusals.contested += 1;
        }
        self.refusals.replaced(at, is_good || is_pausing, true);
        self.clear();
        if is_contested {
            // A timer fires at the next whole millisecond.
            self.next_fetch = Some([at.after(250), at.after(1_001)]);
        }
        true
    }

    /// Drops exactly this token, because it was refused somewhere.
    pub(crate) fn invalidate(&mut self, now: i64, id: usize) {
        let at = self.at(now);
        let Some(token) = self.token.as_ref().filter(|token| token.id == id) else {
            return;
        };
        // Only refusals in the first half of the lifetime count.
        if !at.has_reached(token.middle) {
            self.refusals.is_probe(at, false);
            if self.refusals.is_pausing(at) {
                return;
            }
            self.refusals.replaced(at, false, false);
        }
        self.clear();
    }

    /// Also discards a running fetch, whose callers wait for another one, and ends a pause after a failure unless the server asked
    /// for it.
    pub(crate) fn invalidate_all(&mut self, now: i64, choices: &mut Choices) {
        self.clear();
        self.failure = self.failure.take().filter(|failure| failure.is_retry_after);
        let waiters = self
            .fetch
            .take()
            .map_or_else(Vec::new, |fetch| fetch.waiters);
        for waiter in &waiters {
            self.request_token(now, *waiter, choices);
        }
        // The caller that wakes first decides whether the next fetch may be retried.
        let is_renewal = |waiter: &usize| self.callers[*waiter].0 == Caller::Renew;
        let is_mixed = waiters.iter().any(is_renewal) && !waiters.iter().all(is_renewal);
        let may_retry = is_mixed && self.failure.is_none() && choices.next();
        if let Some(fetch) = self.fetch.as_mut().filter(|_| is_mixed) {
            fetch.may_retry = may_retry;
        }
    }

    fn clear(&mut self) {
        self.token = None;
        self.next_fetch = None;
    }

    fn is_pausing(&mut self, now: Moment, choices: &mut Choices) -> bool {
        let Some(failure) = &mut self.failure else {
            return false;
        };
        let elapsed = now.since(failure.at);
        if elapsed <= failure.longer_than {
            return true;
        }
        if elapsed >= failure.at_most {
            return false;
        }
        let is_pausing = choices.next();
        match is_pausing {
            true => failure.longer_than = elapsed,
            false => failure.at_most = elapsed,
        }
        is_pausing
    }
}

impl Refusals {
    /// Two tokens are replaced, then one after each pause, which doubles from 5 seconds to 5 minutes. The count starts again after a
    /// minute without refusals, or after twice the pause, or when the API accepts a token.
    fn is_pausing(&mut self, now: Moment) -> bool {
        let quiet = (2 * self.pause()).max(60_000);
        if self
            .last
            .is_some_and(|last| now.has_reached(last.after(quiet)))
        {
            (self.streak, self.contested, self.pause_until) = (0, 0, None);
            self.is_streak_of_api = false;
        }
        self.last = Some(now);
        self.pause_until
            .is_some_and(|until| !now.has_reached(until))
    }

    fn replaced(&mut self, now: Moment, is_good: bool, is_api: bool) {
        self.replaced += 1;
        self.last_replaced = Some(now);
        if is_good {
            return;
        }
        self.is_streak_of_api = is_api;
        self.streak += 1;
        if self.streak > 1 {
            self.pause_until = Some(now.after(self.pause()));
        }
    }

    fn end_streak_of_api(&mut self, now: Moment) {
        if self.is_streak_of_api && !self.is_unreliable(now) {
            (self.streak, self.contested, self.pause_until) = (0, 0, None);
            self.is_streak_of_api = false;
        }
    }

    /// After every seven replacements, an accepted token that is refused is kept once.
    fn is_probe(&mut self, now: Moment, is_accepted: bool) -> bool {
        let is_quiet = |last: Moment| now.has_reached(last.after(60_000));
        if self.last_replaced.is_some_and(is_quiet) {
            self.replaced = 0;
        }
        let is_probe = is_accepted && self.replaced >= 7;
        if is_probe {
            self.replaced = 0;
        }
        is_probe
    }

    fn is_unreliable(&mut self, now: Moment) -> bool {
        let is_unreliable = self
            .unreliable_until
            .is_some_and(|until| !now.has_reached(until));
        if is_unreliable {
            self.unreliable_until = Some(now.after(900_000));
        }
        is_unreliable
    }

    fn pause(&self) -> i64 {
        match self.streak {
            0 | 1 => 0,
            streak => (5_000 << (streak - 2).min(10)).min(300_000),
        }
    }
}

fn usable(lifetime: i64) -> i64 {
    (lifetime - (lifetime / 20).clamp(10, 10_000)).max(0)
}

/// Fetches.
impl Model {
    fn join(&mut self, now: i64, caller: usize, waits_for_any: bool) {
        if self.fetch.is_none() {
            self.start(now, waits_for_any && self.failure.is_none());
        }
        if let Some(fetch) = &mut self.fetch {
            fetch.waiters.push(caller);
        }
    }

    fn start(&mut self, now: i64, may_retry: bool) {
        let at = self.at(now);
        let [until, latest] = [0, 1].map(|n| {
            self.next_fetch.map_or(now, |next| {
                let left = (next[n].monotonic - at.monotonic).min(next[n].wall - at.wall);
                now + left.max(0)
            })
        });
        self.fetch = Some(Fetch {
            may_retry,
            waiters: Vec::new(),
            stage: Stage::Waiting { until, latest },
        });
    }

    /// Advances the model to `now`. The time of a second attempt is taken from `log`, the requests of the real server.
    pub(crate) fn run(
        &mut self,
        now: i64,
        server: Server,
        log: &[Sent],
        choices: &mut Choices,
    ) -> Result<(), Mismatch> {
        while let Some(fetch) = &mut self.fetch {
            match fetch.stage.clone() {
                Stage::Waiting { until, latest } if until <= now => {
                    let at = match log.get(self.sent) {
                        Some(next) if (until..=latest).contains(&next.at) => next.at,
                        None if until < latest && now <= latest => return Ok(()),
                        _ => until,
                    };
                    self.send(at, at + FETCH_TIMEOUT, server, log)?;
                }
                Stage::Sent {
                    id,
                    sent,
                    server,
                    answer_at,
                    deadline,
                } if answer_at.min(deadline) <= now => {
                    self.answered(id, sent, server, answer_at, deadline, choices);
                }
                Stage::Pausing {
                    failed_at,
                    deadline,
                } => {
                    let Some(next) = log.get(self.sent) else {
                        return match now > failed_at + 401 {
                            true => Err("the second attempt is missing".into()),
                            false => Ok(()),
                        };
                    };
                    let pause = next.at - failed_at;
                    if !(200..=401).contains(&pause) {
                        return Err(format!("a second attempt after {pause} ms"));
                    }
                    fetch.may_retry = false;
                    self.send(next.at, deadline, server, log)?;
                }
                Stage::Waiting { .. } | Stage::Sent { .. } => return Ok(()),
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        at: i64,
        deadline: i64,
        server: Server,
        log: &[Sent],
    ) -> Result<(), Mismatch> {
        let id = self.sent;
        match log.get(id) {
            Some(sent) if sent.at == at => {}
            other => return Err(format!("request {id} is sent at {at}, not {other:?}")),
        }
        self.sent += 1;
        let sent = self.at(at);
        let answer_at = match server.mode {
            Mode::Silent => i64::MAX,
            _ => at + server.latency,
        };
        if let Some(fetch) = &mut self.fetch {
            fetch.stage = Stage::Sent {
                id,
                sent,
                server,
                answer_at,
                deadline,
            };
        }
        Ok(())
    }

    fn answered(
        &mut self,
        id: usize,
        sent: Moment,
        server: Server,
        answer_at: i64,
        deadline: i64,
        choices: &mut Choices,
    ) {
        let Some(fetch) = self.fetch.take() else {
            return;
        };
        let now = answer_at.min(deadline);
        if answer_at < deadline && server.mode == Mode::Transient && fetch.may_retry {
            self.fetch = Some(Fetch {
                stage: Stage::Pausing {
                    failed_at: now,
                    deadline,
                },
                ..fetch
            });
            return;
        }
        let has_expired = self
            .at(now)
            .has_reached(sent.after(usable(server.lifetime)));
        let output = match server.mode {
            _ if answer_at > deadline => Output::Error(None),
            // A token that expired before it arrived goes to nobody.
            Mode::Token if has_expired && usable(server.lifetime) > 0 => Output::Error(None),
            Mode::Token => Output::Token(id),
            _ => Output::Error(Some(id)),
        };
        match output {
            Output::Token(_) => self.store(now, id, sent, server),
            _ => self.fail(now, output, server.mode),
        }
        for waiter in fetch.waiters {
            self.deliver(now, waiter, output, choices);
        }
    }

    /// A token expires early by a twentieth of its lifetime, at least 10 milliseconds and at most 10 seconds. Its lifetime starts
    /// before the request is sent.
    fn store(&mut self, now: i64, id: usize, sent: Moment, server: Server) {
        let part = if self.has_renewed { LATER } else { FIRST };
        let lifetime = server.lifetime;
        let usable = usable(lifetime);
        let planned = (lifetime as f64 * part) as i64;
        let fresh = server
            .refresh_in
            .map_or(planned, |time| time.clamp(usable / 2, usable));
        let now = self.at(now);
        let end = sent.after(usable);
        let is_usable = |end: Moment| !now.has_reached(end);
        // An expired token does not replace a usable one.
        if is_usable(end)
            || !self
                .token
                .as_ref()
                .is_some_and(|token| is_usable(token.end))
        {
            self.token = Some(Token {
                id,
                stale: sent.after(fresh.min(usable)),
                end,
                middle: sent.after(lifetime / 2),
                standing: Standing::Unknown,
                sent,
            });
        }
        self.has_renewed = true;
        self.failure = None;
        self.next_fetch = Some([sent.after(SPACING); 2]);
    }

    /// Starts a pause that doubles from one second, or five for a final error, up to one minute. Jitter shortens it by at most
    /// half. The server can ask for a longer pause, up to five minutes.
    fn fail(&mut self, now: i64, output: Output, mode: Mode) {
        let at = self.at(now);
        let streak = 1 + self.failure.as_ref().map_or(0, |failure| failure.streak);
        let first = if mode == Mode::Terminal { 5_000 } else { 1_000 };
        let full = (first << (streak - 1).min(10)).min(60_000);
        let asked = match mode {
            Mode::RetryAfter(seconds) => (seconds * 1000).min(300_000),
            _ => 0,
        };
        self.failure = Some(Failure {
            output,
            at,
            streak,
            longer_than: (full / 2).max(asked) - 1,
            at_most: full.max(asked),
            is_retry_after: matches!(mode, Mode::RetryAfter(_)),
        });
        self.next_fetch = Some([at.after(SPACING); 2]);
    }
}
