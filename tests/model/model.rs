//! What the docs of the cache say that happens, as a machine small enough to be seen through.
//!
//! Time is in milliseconds, on two clocks. What the docs leave to chance (the pause after a failure, the moment before a second
//! attempt) is a choice: a [`Choices`] says which way to go, and whoever compares tries all of them.

/// A moment on the monotonic and on the wall clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct At {
    pub(crate) monotonic: i64,
    pub(crate) wall: i64,
}

impl At {
    pub(crate) fn after(self, time: i64) -> Self {
        Self {
            monotonic: self.monotonic + time,
            wall: self.wall + time,
        }
    }

    /// "when the monotonic or the wall clock says so"
    pub(crate) fn has_reached(self, deadline: Self) -> bool {
        self.monotonic >= deadline.monotonic || self.wall >= deadline.wall
    }

    /// The time since then by the clock that has gone further.
    fn since(self, then: Self) -> i64 {
        (self.monotonic - then.monotonic).max(self.wall - then.wall)
    }
}

/// How the server answers, from when it is told to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    Token,
    Transient,
    Terminal,
    RetryAfter(i64),
    Silent,
}

/// The server as it stands when a request comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) mode: Mode,
    pub(crate) latency: i64,
    pub(crate) lifetime: i64,
    pub(crate) refresh_in: Option<i64>,
}

/// A token request that the real server got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: i64,
}

/// What a caller gets: the number of the request that brought the token, or of the one that failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Output {
    Token(usize),
    /// `None` is a fetch that took too long.
    Error(Option<usize>),
    /// The API refused this token, and there was no other.
    Refused(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Caller {
    /// `TokenSource::token`.
    Token,
    /// `TokenSource::renew`.
    Renew,
    /// A request through the layer, sent once more when its token is refused.
    Request,
    /// The same, whose first token was refused.
    RequestAgain(usize),
}

#[derive(Clone, Debug)]
struct Token {
    id: usize,
    stale: At,
    end: At,
    /// The middle of its life.
    middle: At,
}

#[derive(Clone, Debug)]
struct Failure {
    output: Output,
    at: At,
    streak: u32,
    /// The pause lasts longer than `longer_than` and no longer than `at_most`.
    longer_than: i64,
    at_most: i64,
    /// Whether the server asked for it.
    is_asked: bool,
}

#[derive(Clone, Debug)]
struct Flight {
    may_retry: bool,
    waiters: Vec<usize>,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Not sent before the second since the last one is over.
    Waiting { until: i64 },
    /// Its answer comes at `until`, or the limit of the fetch.
    Sent {
        id: usize,
        sent: At,
        server: Server,
        until: i64,
        limit: i64,
    },
    /// The first attempt failed; the second goes out some moments later.
    Pausing { failed_at: i64, limit: i64 },
}

/// Says which way to go where the docs leave it open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    given: Vec<bool>,
    asked: usize,
}

impl Choices {
    fn next(&mut self) -> bool {
        if self.asked == self.given.len() {
            self.given.push(false);
        }
        self.asked += 1;
        self.given[self.asked - 1]
    }

    /// The choices to try after these, if there are any.
    pub(crate) fn advance(mut self) -> Option<Self> {
        self.given.truncate(self.asked);
        while let Some(last) = self.given.pop() {
            if !last {
                self.given.push(true);
                self.asked = 0;
                return Some(self);
            }
        }
        None
    }
}

/// The cache, its one source and the layer over it.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    token: Option<Token>,
    has_renewed: bool,
    failure: Option<Failure>,
    flight: Option<Flight>,
    next_fetch: Option<At>,
    refusals: Refusals,
    callers: Vec<(Caller, Option<Output>)>,
    /// Token requests so far.
    sent: usize,
    revoked: Vec<usize>,
    /// By how much the wall clock is ahead of the monotonic one.
    ahead: i64,
}

#[derive(Clone, Debug, Default)]
struct Refusals {
    streak: u32,
    last: Option<At>,
    pause_until: Option<At>,
}

/// Why the real cache cannot have done what this model does.
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
            flight: None,
            next_fetch: None,
            refusals: Refusals::default(),
            callers: Vec::new(),
            sent: 0,
            revoked: Vec::new(),
            ahead: 0,
        }
    }

    /// What each caller so far has got, or that it waits.
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
        self.ahead += by;
    }

    /// Every token that was given out so far.
    pub(crate) fn revoke(&mut self) {
        self.revoked = (0..self.sent).collect();
    }

    fn at(&self, monotonic: i64) -> At {
        At {
            monotonic,
            wall: monotonic + self.ahead,
        }
    }
}

/// Callers.
impl Model {
    pub(crate) fn call(&mut self, now: i64, caller: Caller, choices: &mut Choices) {
        self.callers.push((caller, None));
        self.ask(now, self.callers.len() - 1, choices);
    }

    fn ask(&mut self, now: i64, caller: usize, choices: &mut Choices) {
        let at = self.at(now);
        if self.callers[caller].0 == Caller::Renew {
            let is_asked = self
                .failure
                .as_ref()
                .is_some_and(|failure| failure.is_asked);
            if is_asked && self.is_pausing(at, choices) {
                let output = self.failure.as_ref().map(|failure| failure.output);
                return self.give(now, caller, output.unwrap(), choices);
            }
            return self.join(now, caller, false);
        }
        if let Some(token) = self
            .token
            .clone()
            .filter(|token| !at.has_reached(token.end))
        {
            // "served, while one renewal runs in the background"; "the next attempt comes after a pause"
            if at.has_reached(token.stale) && self.flight.is_none() && !self.is_pausing(at, choices)
            {
                self.start(now, false);
            }
            return self.give(now, caller, Output::Token(token.id), choices);
        }
        if self.is_pausing(at, choices) {
            let output = self.failure.as_ref().map(|failure| failure.output);
            return self.give(now, caller, output.unwrap(), choices);
        }
        self.join(now, caller, true);
    }

    fn give(&mut self, now: i64, caller: usize, output: Output, choices: &mut Choices) {
        let output = match (self.callers[caller].0, output) {
            (Caller::Request, Output::Token(id)) if self.revoked.contains(&id) => {
                if !self.invalidate(now, id) {
                    Output::Refused(id)
                } else {
                    self.callers[caller].0 = Caller::RequestAgain(id);
                    return self.ask(now, caller, choices);
                }
            }
            (Caller::RequestAgain(refused), Output::Error(_)) => Output::Refused(refused),
            (Caller::RequestAgain(_), Output::Token(id)) if self.revoked.contains(&id) => {
                self.invalidate(now, id);
                Output::Refused(id)
            }
            (_, output) => output,
        };
        self.callers[caller].1 = Some(output);
    }

    /// "That very token is dropped"; whether another can be had in its place.
    pub(crate) fn invalidate(&mut self, now: i64, id: usize) -> bool {
        let Some(token) = self.token.as_ref().filter(|token| token.id == id) else {
            return true;
        };
        let at = self.at(now);
        // "Soon after it was issued" is the first half of its life.
        let is_dropped = at.has_reached(token.middle) || self.refusals.note(at);
        if is_dropped {
            self.clear();
        }
        is_dropped
    }

    /// Also what a fetch under way would bring: who waits for it waits for another. And "a pause
    /// after a failure ends, unless the server asked for it".
    pub(crate) fn invalidate_all(&mut self, now: i64, choices: &mut Choices) {
        self.clear();
        self.failure = self.failure.take().filter(|failure| failure.is_asked);
        let waiters = self
            .flight
            .take()
            .map_or_else(Vec::new, |flight| flight.waiters);
        for waiter in &waiters {
            self.ask(now, *waiter, choices);
        }
        // Whoever wakes first says whether the next one may be tried twice.
        let is_renewal = |waiter: &usize| self.callers[*waiter].0 == Caller::Renew;
        let is_mixed = waiters.iter().any(is_renewal) && !waiters.iter().all(is_renewal);
        let may_retry = is_mixed && self.failure.is_none() && choices.next();
        if let Some(flight) = self.flight.as_mut().filter(|_| is_mixed) {
            flight.may_retry = may_retry;
        }
    }

    fn clear(&mut self) {
        self.token = None;
        self.next_fetch = None;
    }

    fn is_pausing(&mut self, now: At, choices: &mut Choices) -> bool {
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
    /// "two are replaced at once, then one after a pause that doubles from 5 seconds to 5 minutes"; a quiet minute, or twice the
    /// pause, makes the next refusal the first again.
    fn note(&mut self, now: At) -> bool {
        let quiet = (2 * self.pause()).max(60_000);
        if self
            .last
            .is_some_and(|last| now.has_reached(last.after(quiet)))
        {
            *self = Self::default();
        }
        self.last = Some(now);
        if self
            .pause_until
            .is_some_and(|until| !now.has_reached(until))
        {
            return false;
        }
        self.streak += 1;
        if self.streak > 1 {
            self.pause_until = Some(now.after(self.pause()));
        }
        true
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
        if self.flight.is_none() {
            self.start(now, waits_for_any && self.failure.is_none());
        }
        if let Some(flight) = &mut self.flight {
            flight.waiters.push(caller);
        }
    }

    fn start(&mut self, now: i64, may_retry: bool) {
        let at = self.at(now);
        let left = self.next_fetch.map_or(0, |next| {
            (next.monotonic - at.monotonic)
                .min(next.wall - at.wall)
                .max(0)
        });
        self.flight = Some(Flight {
            may_retry,
            waiters: Vec::new(),
            stage: Stage::Waiting { until: now + left },
        });
    }

    /// Lets time pass until `now`. `log` is what the real server got: the time of a second attempt is taken from there.
    pub(crate) fn run(
        &mut self,
        now: i64,
        server: Server,
        log: &[Sent],
        choices: &mut Choices,
    ) -> Result<(), Mismatch> {
        while let Some(flight) = &mut self.flight {
            match flight.stage.clone() {
                Stage::Waiting { until } if until <= now => {
                    self.send(until, until + FETCH_TIMEOUT, server, log)?;
                }
                Stage::Sent {
                    id,
                    sent,
                    server,
                    until,
                    limit,
                } if until.min(limit) <= now => {
                    self.answered(id, sent, server, until, limit, choices);
                }
                Stage::Pausing { failed_at, limit } => {
                    let Some(next) = log.get(self.sent) else {
                        return match now > failed_at + 401 {
                            true => Err("there is no second attempt".into()),
                            false => Ok(()),
                        };
                    };
                    let pause = next.at - failed_at;
                    if !(200..=401).contains(&pause) {
                        return Err(format!("a second attempt after {pause} ms"));
                    }
                    flight.may_retry = false;
                    self.send(next.at, limit, server, log)?;
                }
                Stage::Waiting { .. } | Stage::Sent { .. } => return Ok(()),
            }
        }
        Ok(())
    }

    fn send(&mut self, at: i64, limit: i64, server: Server, log: &[Sent]) -> Result<(), Mismatch> {
        let id = self.sent;
        match log.get(id) {
            Some(sent) if sent.at == at => {}
            other => return Err(format!("request {id} goes out at {at}, not {other:?}")),
        }
        self.sent += 1;
        let sent = self.at(at);
        let until = match server.mode {
            Mode::Silent => i64::MAX,
            _ => at + server.latency,
        };
        if let Some(flight) = &mut self.flight {
            flight.stage = Stage::Sent {
                id,
                sent,
                server,
                until,
                limit,
            };
        }
        Ok(())
    }

    fn answered(
        &mut self,
        id: usize,
        sent: At,
        server: Server,
        until: i64,
        limit: i64,
        choices: &mut Choices,
    ) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let now = until.min(limit);
        if until < limit && server.mode == Mode::Transient && flight.may_retry {
            self.flight = Some(Flight {
                stage: Stage::Pausing {
                    failed_at: now,
                    limit,
                },
                ..flight
            });
            return;
        }
        let is_over = self
            .at(now)
            .has_reached(sent.after(usable(server.lifetime)));
        let output = match server.mode {
            _ if until > limit => Output::Error(None),
            // What was over before it arrived is nobody's token.
            Mode::Token if is_over && usable(server.lifetime) > 0 => Output::Error(None),
            Mode::Token => Output::Token(id),
            _ => Output::Error(Some(id)),
        };
        match output {
            Output::Token(_) => self.hold(now, id, sent, server),
            _ => self.fail(now, output, server.mode),
        }
        for waiter in flight.waiters {
            self.give(now, waiter, output, choices);
        }
    }

    /// "A token ends a little before the server says so: a twentieth of its lifetime, at least 10 milliseconds and at most 10
    /// seconds"; its lifetime counts from before the request was sent.
    fn hold(&mut self, now: i64, id: usize, sent: At, server: Server) {
        let part = if self.has_renewed { LATER } else { FIRST };
        let lifetime = server.lifetime;
        let usable = usable(lifetime);
        let planned = (lifetime as f64 * part) as i64;
        let fresh = server
            .refresh_in
            .map_or(planned, |time| time.clamp(usable / 2, usable));
        let now = self.at(now);
        let end = sent.after(usable);
        let is_good = |end: At| !now.has_reached(end);
        // A token without a use does not displace one that can be used.
        if is_good(end) || !self.token.as_ref().is_some_and(|token| is_good(token.end)) {
            self.token = Some(Token {
                id,
                stale: sent.after(fresh.min(usable)),
                end,
                middle: sent.after(lifetime / 2),
            });
        }
        self.has_renewed = true;
        self.failure = None;
        self.next_fetch = Some(sent.after(SPACING));
    }

    /// A pause that doubles from a second, or from five if the error is final, to a minute; between its half and its whole. Or as
    /// long as the server asks, up to five minutes.
    fn fail(&mut self, now: i64, output: Output, mode: Mode) {
        let at = self.at(now);
        let streak = 1 + self.failure.as_ref().map_or(0, |failure| failure.streak);
        let first = if mode == Mode::Terminal { 5_000 } else { 1_000 };
        let whole = (first << (streak - 1).min(10)).min(60_000);
        let asked = match mode {
            Mode::RetryAfter(seconds) => (seconds * 1000).min(300_000),
            _ => 0,
        };
        self.failure = Some(Failure {
            output,
            at,
            streak,
            longer_than: (whole / 2).max(asked) - 1,
            at_most: whole.max(asked),
            is_asked: matches!(mode, Mode::RetryAfter(_)),
        });
        self.next_fetch = Some(at.after(SPACING));
    }
}
