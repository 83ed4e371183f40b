//! What is known of the APIs: per origin, its protected resources, and the authorizations under way.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use http::Uri;

use super::{demand::Demand, error::NotAuthorized, rounds::Rounds};
use crate::{
    authorization_server::metadata::resource_contains,
    base::{origin::Origin, per_server::PerServer, single_flight::driven::Driven},
    message::{Challenge, Scope},
    token_cache::source::TokenSource,
};

/// More resources of one origin are not kept.
const MAX_RESOURCES: usize = 256;
/// The rounds of more paths of one origin are not kept.
const MAX_PATHS: usize = 256;

/// What this client has for a resource.
pub(super) struct Access {
    pub(super) source: TokenSource,
    /// As its server writes it.
    pub(super) issuer: Arc<str>,
    /// The resource indicator.
    pub(super) resource: Option<Arc<str>>,
    pub(super) requested: Scope,
    pub(super) is_sign_in: bool,
    pub(super) is_bound: bool,
    /// With which the API demanded it.
    pub(super) challenges: Vec<Challenge>,
    /// Whether the API has accepted a token.
    pub(super) accepted: AtomicBool,
}

impl Access {
    /// Returns the URL of the resource, at which it can have metadata.
    pub(super) fn resource_url(&self) -> Option<Uri> {
        self.resource.as_deref()?.parse().ok()
    }

    pub(super) fn note_accepted(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// How an authorization ended.
pub(super) type Landed = Result<Arc<Access>, Stop>;

/// Why there is no other access.
#[derive(Clone)]
pub(super) enum Stop {
    /// The caller gets the response.
    Keep,
    Failed(NotAuthorized),
}

/// All origins. Their number is limited.
#[derive(Default)]
pub(super) struct Table(PerServer<Origin, Arc<OfOrigin>>);

impl Table {
    /// Returns what is known of the origin of a URL.
    pub(super) fn origin(&self, url: &Uri) -> Option<Arc<OfOrigin>> {
        self.0.get(&Origin::of(url)?)
    }

    pub(super) fn origin_or_new(&self, url: &Uri) -> Option<Arc<OfOrigin>> {
        Some(self.0.get_or_insert_with(Origin::of(url)?, Arc::default))
    }
}

/// What is known of an origin.
#[derive(Default)]
pub(super) struct OfOrigin {
    resources: Mutex<Vec<Arc<Resource>>>,
    flights: Mutex<Vec<(FlightKey, Weak<Driven<Landed>>)>>,
    /// The rounds that requests to a path have started, whatever the API said which resource it is.
    rounds: Mutex<VecDeque<(Box<str>, Arc<Rounds>)>>,
    /// Whether it has ever had metadata of a resource.
    pub(super) has_metadata: AtomicBool,
}

/// Requests that ask for the same share one flight.
#[derive(Clone, PartialEq)]
pub(super) struct FlightKey {
    /// With the query.
    pub(super) path: Box<str>,
    pub(super) demand: Demand,
    /// The access whose token was sent, by its address.
    pub(super) sent: usize,
}

impl OfOrigin {
    /// Returns the access for the URL. If several resources contain it, the longest counts.
    pub(super) fn access(&self, url: &Uri) -> Option<Arc<Access>> {
        let resources = lock(&self.resources);
        let with_access = resources.iter().filter_map(|it| Some((it, it.access()?)));
        let containing = with_access.filter(|(it, _)| it.contains(url));
        let longest = containing.max_by_key(|(it, _)| it.name.len());
        longest.map(|(_, access)| access)
    }

    /// Returns the resource whose token the URL gets, or one of this URL alone.
    ///
    /// A resource for which there is no token does not count: another API of this origin may have said that it is this resource.
    pub(super) fn nearest(&self, url: &Uri) -> Arc<Resource> {
        let known = {
            let resources = lock(&self.resources);
            let containing = resources
                .iter()
                .filter(|it| it.access().is_some() && it.contains(url));
            containing.max_by_key(|it| it.name.len()).cloned()
        };
        known.unwrap_or_else(|| {
            let text = url.to_string();
            let name = text.split_once('?').map_or(&*text, |(path, _)| path);
            self.named(name)
        })
    }

    /// Returns the resource of this name.
    pub(super) fn named(&self, name: &str) -> Arc<Resource> {
        let mut resources = lock(&self.resources);
        if let Some(resource) = resources.iter().find(|it| *it.name == *name) {
            return resource.clone();
        }
        if resources.len() == MAX_RESOURCES {
            let unused = resources.iter().position(|it| it.access().is_none());
            resources.remove(unused.unwrap_or(0));
        }
        let resource = Arc::new(Resource::new(name));
        resources.push(resource.clone());
        resource
    }

    /// Forgets what would come before `resource` for the URL, since the API says that it is the resource.
    pub(super) fn prefer(&self, resource: &Arc<Resource>, url: &Uri) {
        let comes_before = |it: &Arc<Resource>| {
            !Arc::ptr_eq(it, resource) && it.name.len() >= resource.name.len() && it.contains(url)
        };
        lock(&self.resources).retain(|it| !comes_before(it));
    }

    /// Returns the rounds that requests to the path of this URL have started.
    pub(super) fn rounds(&self, url: &Uri) -> Arc<Rounds> {
        let mut rounds = lock(&self.rounds);
        if let Some((_, of_path)) = rounds.iter().find(|(path, _)| **path == *url.path()) {
            return of_path.clone();
        }
        if rounds.len() == MAX_PATHS {
            rounds.pop_front();
        }
        let of_path = Arc::<Rounds>::default();
        rounds.push_back((url.path().into(), of_path.clone()));
        of_path
    }

    /// Joins the flight of this key, or starts it.
    pub(super) fn join(
        &self,
        key: FlightKey,
        start: impl FnOnce() -> Arc<Driven<Landed>>,
    ) -> Arc<Driven<Landed>> {
        let mut flights = lock(&self.flights);
        flights.retain(|(_, flight)| flight.strong_count() > 0);
        let joined = flights.iter().find(|(other, _)| *other == key);
        if let Some(flight) = joined.and_then(|(_, flight)| flight.upgrade()) {
            return flight;
        }
        let flight = start();
        flights.push((key, Arc::downgrade(&flight)));
        flight
    }
}

/// A protected resource, or a URL whose resource is not known.
pub(super) struct Resource {
    /// As the API writes it.
    name: Box<str>,
    /// Whoever authorizes for the resource holds it.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) rounds: Rounds,
    access: Mutex<Option<Arc<Access>>>,
}

impl Resource {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            turn: tokio::sync::Mutex::new(()),
            rounds: Rounds::default(),
            access: Mutex::default(),
        }
    }

    fn contains(&self, url: &Uri) -> bool {
        resource_contains(url, &self.name)
    }

    pub(super) fn access(&self) -> Option<Arc<Access>> {
        lock(&self.access).clone()
    }

    pub(super) fn set(&self, access: Option<Arc<Access>>) {
        *lock(&self.access) = access;
    }

    /// Forgets an access, unless it was replaced.
    pub(super) fn forget(&self, access: &Arc<Access>) {
        lock(&self.access).take_if(|current| Arc::ptr_eq(current, access));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
