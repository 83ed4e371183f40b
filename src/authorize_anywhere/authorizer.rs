//! `Authorizer`: from the demand of an API to a source of tokens for it.

use std::{fmt, sync::Arc};

use http::Uri;

use super::{
    by_issuer::ByIssuer,
    demand::Demand,
    discovered::{Allowed, Discovered},
    error::{Failure, NotAuthorizedKind as Kind},
    http::ErasedHttp,
    layer::Settings,
    obtain::Obtain,
    question::{Question, ended, so_far},
    rounds::Rounds,
    server::KnownServer,
    step::{Sent, Step},
    table::{Access, FlightKey, Landed, OfOrigin, Resource, Stop, Table},
};
use crate::{
    base::{clock::Moment, per_server::PerServer, single_flight::driven::Driven},
    message::Challenge,
    token_cache::TokenCache,
};

/// See the [module](self). All services of a layer share it.
pub(super) struct Authorizer {
    pub(super) settings: Settings,
    pub(super) http: ErasedHttp,
    pub(super) cache: TokenCache,
    pub(super) servers: PerServer<String, Arc<KnownServer>>,
    table: Table,
}

impl Authorizer {
    pub(super) fn new(settings: Settings, http: ErasedHttp) -> Self {
        let clock = settings.clock.clone();
        let builder = TokenCache::builder(ByIssuer).clock(clock);
        let builder = match &settings.token_cache {
            Some(configure) => configure(builder),
            None => builder,
        };
        Self {
            settings,
            http,
            cache: builder.build(),
            servers: PerServer::default(),
            table: Table::default(),
        }
    }

    /// Returns what there is for a request to this URL.
    pub(super) fn access(&self, url: &Uri) -> Option<Arc<Access>> {
        self.table.origin(url)?.access(url)
    }

    /// Obtains what the response demands. Requests that ask for the same share the work.
    pub(super) async fn answer(self: &Arc<Self>, question: Question) -> Landed {
        let Some(origin) = self.table.origin_or_new(&question.url) else {
            return Err(Stop::Keep);
        };
        let key = FlightKey {
            path: question
                .url
                .path_and_query()
                .map_or("/", |it| it.as_str())
                .into(),
            demand: question.demand.clone(),
            sent: question
                .sent
                .as_ref()
                .map_or(0, |sent| Arc::as_ptr(sent) as usize),
        };
        let flight = origin.join(key, || {
            let (authorizer, origin) = (self.clone(), origin.clone());
            Driven::new(async move { authorizer.round(&origin, &question).await })
        });
        flight.outcome().await.unwrap_or(Err(Stop::Keep))
    }

    async fn round(&self, origin: &OfOrigin, question: &Question) -> Landed {
        let nearest = origin.nearest(&question.url);
        let turn = nearest.turn.lock().await;
        if let Some(access) = question.newer(origin.access(&question.url)) {
            return Ok(access);
        }
        // The API says which resource it is, so it could be another one each time.
        let rounds = origin.rounds(&question.url);
        self.start(&rounds, &nearest, question)?;
        let landed = match self.discover(origin, question).await {
            Err(failure) => Err(question.failed(failure)),
            Ok(found) => {
                let resource = origin.named(found.name());
                // Two resources are never locked at once.
                let _turn = match Arc::ptr_eq(&resource, &nearest) {
                    true => turn,
                    false => {
                        drop(turn);
                        resource.turn.lock().await
                    }
                };
                let landed = match question.newer(resource.access()) {
                    Some(access) => Ok(access),
                    None => {
                        self.start(&resource.rounds, &resource, question)?;
                        let landed = self.authorize(&resource, &found, question).await;
                        self.note(&resource.rounds, &landed);
                        landed
                    }
                };
                if landed.is_ok() {
                    origin.prefer(&resource, &question.url);
                }
                landed
            }
        };
        self.note(&rounds, &landed);
        landed
    }

    /// Starts a round, or says why it is too early. Then a sign-in of `resource` that has ended is forgotten.
    fn start(&self, rounds: &Rounds, resource: &Resource, question: &Question) -> Result<(), Stop> {
        let Err(stop) = rounds.start(self.now(), self.settings.max_rounds) else {
            return Ok(());
        };
        let sent = question.sent.as_ref().filter(|sent| sent.is_sign_in);
        let Some(sent) = sent.filter(|_| question.demand == Demand::OtherToken) else {
            return Err(stop);
        };
        // It is the same error whether the API has refused its token, or the cache cannot renew it.
        let failure = match stop {
            Stop::Keep => question.not_authorized(ended()),
            Stop::Failed(failure) => failure,
        };
        rounds.end(&failure);
        resource.forget(sent);
        Err(Stop::Failed(failure))
    }

    fn note(&self, rounds: &Rounds, landed: &Landed) {
        match landed {
            Ok(_) => rounds.note_success(),
            Err(Stop::Failed(failure)) => {
                tracing::debug!(target: TARGET, error = %failure, "failed to authorize for an API");
                rounds.note_failure(self.now(), failure, failure.retry_after());
            }
            Err(Stop::Keep) => {}
        }
    }

    async fn discover(
        &self,
        origin: &OfOrigin,
        question: &Question,
    ) -> Result<Discovered, Failure> {
        let allowed = Allowed {
            internal_addresses: self.settings.allows_internal_addresses,
            no_metadata: self.settings.uses_default_endpoints,
        };
        let names_metadata = |it: &Challenge| it.resource_metadata().is_some();
        let known = question.sent.as_ref().and_then(|sent| sent.resource_url());
        if let (Some(sent), Some(url)) = (&question.sent, known)
            && !question.challenges.iter().any(names_metadata)
        {
            // Where its metadata were before. A URL below a resource has none of its own.
            let (http, challenges) = (self.http.clone(), &sent.challenges);
            let found = Discovered::fetch(http, &url, challenges, origin, allowed).await;
            if !found.as_ref().is_err_and(Failure::is_absence) {
                return found.and_then(|found| found.containing(&question.url));
            }
        }
        let (http, challenges) = (self.http.clone(), &question.challenges);
        Discovered::fetch(http, &question.url, challenges, origin, allowed).await
    }

    /// Authorizes for a resource whose turn is held.
    async fn authorize(
        &self,
        resource: &Resource,
        found: &Discovered,
        question: &Question,
    ) -> Landed {
        let sent = question.sent.as_deref();
        let current = sent.map(|sent| &*sent.issuer);
        let chosen = self.choose_server(found, current).await;
        let (server, identity) = match chosen {
            Ok(chosen) => chosen,
            Err(failure) => {
                // The API has moved to where nothing may follow.
                if failure.kind == Kind::IssuerNotAllowed {
                    resource.set(None);
                }
                return Err(question.failed(failure));
            }
        };
        let metadata = server.metadata();
        let Some(grant) = identity.grant_at(metadata.and_then(|it| it.grant_types_supported()))
        else {
            let message =
                format!("the authorization server {server} lists no grant of the identity");
            return Err(question.failed(Failure::new(Kind::Unsupported, message)));
        };
        // Another server does not know the scope of this one, and another resource has scopes of its own.
        let is_named =
            |sent: &Access| sent.issuer == server.issuer && sent.resource == found.indicator();
        let named = sent.filter(|sent| is_named(sent));
        let scope = question.scope(found, &server, &identity, grant.is_sign_in(), named);
        let is_bound = question
            .is_bound(found, &identity)
            .map_err(|failure| question.failed(failure))?;
        let step = Step::after(
            &question.demand,
            sent.map(|sent| Sent {
                is_named: named.is_some(),
                lacks_key: is_bound && !sent.is_bound,
                would_widen: scope != so_far(sent),
                was_accepted: sent.was_accepted(),
                is_sign_in: sent.is_sign_in,
                has_ended: question.has_ended,
            }),
        );
        match step {
            Step::Authorize => {}
            Step::Keep => return Err(Stop::Keep),
            Step::End => {
                resource.set(None);
                return Err(question.failed(ended()));
            }
        }
        let obtain = Obtain {
            authorizer: self,
            server: &server,
            identity: &identity,
            grant,
            resource: found.indicator(),
            scope,
            is_bound: is_bound || named.is_some_and(|sent| sent.is_bound),
            challenges: &question.challenges,
        };
        match obtain.access().await {
            Ok(access) => {
                let access = Arc::new(access);
                resource.set(Some(access.clone()));
                Ok(access)
            }
            Err(failure) => Err(question.failed(failure)),
        }
    }

    pub(super) fn now(&self) -> Moment {
        self.settings.clock.now()
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}

const TARGET: &str = "tower_oauth2_client::authorize_anywhere";
