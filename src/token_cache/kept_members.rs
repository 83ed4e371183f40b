//! What stays of a token response beside its token: the scope, and the members that the cache was asked to keep.

use std::{collections::BTreeSet, error::Error, fmt, sync::Arc};

use serde_json::Value;

use crate::{
    base::Quoted,
    message::{Scope, TokenRequest, TokenResponse},
    secret::IdToken,
};

const ID_TOKEN: &str = KeptMembers::ID_TOKEN;

/// Returns where a secret member is found instead, which is not kept like the others.
fn place_of_its_own(name: &str) -> Option<&'static str> {
    match name {
        "access_token" => Some("call `IssuedToken::expose_secret`"),
        "refresh_token" => Some(
            "the cache uses it, and calls the function of `TokenCacheBuilder::on_refresh_token` with it",
        ),
        ID_TOKEN => Some("call `IssuedToken::id_token`"),
        _ => None,
    }
}

/// Which members of responses a cache keeps. A clone shares the names.
#[derive(Clone, Default)]
pub(super) struct KeepMembers(Option<Arc<Names>>);

#[derive(Clone, Default)]
struct Names {
    named: BTreeSet<String>,
    is_all: bool,
}

impl KeepMembers {
    pub(super) fn add(&mut self, names: impl Iterator<Item = String>) {
        self.names().named.extend(names);
    }

    pub(super) fn add_all(&mut self) {
        self.names().is_all = true;
    }

    fn names(&mut self) -> &mut Names {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    fn contains(&self, name: &str) -> bool {
        let names = self.0.as_ref();
        names.is_some_and(|names| names.is_all || names.named.contains(name))
    }

    /// Returns what to keep of a response. `None` if that is nothing.
    pub(super) fn of(
        &self,
        response: &TokenResponse,
        request: &TokenRequest,
    ) -> Option<KeptMembers> {
        let scope = response.scope().filter(|scope| {
            // The next response may leave the scope out.
            request.carries_one_time_credential()
                || request.get_scope().map(Scope::from).as_ref() != Some(*scope)
        });
        if scope.is_none() && self.0.is_none() {
            return None;
        }
        Some(KeptMembers {
            keep: self.clone(),
            scope: scope.cloned(),
            id_token: response
                .id_token()
                .filter(|_| self.contains(ID_TOKEN))
                .cloned(),
            members: self.members(response),
        })
    }

    fn members(&self, response: &TokenResponse) -> Box<[(Box<str>, Value)]> {
        let is_wanted = |name: &str| self.contains(name) && place_of_its_own(name).is_none();
        if self.0.is_none() {
            return Box::default();
        }
        let members = response.members().into_iter();
        members
            .filter(|(name, _)| is_wanted(name))
            .map(|(name, value)| (name.into(), value))
            .collect()
    }
}

/// What stays of a response.
pub(crate) struct KeptMembers {
    keep: KeepMembers,
    /// The scope that the server granted, unless it equals the requested one.
    scope: Option<Scope>,
    id_token: Option<IdToken>,
    /// Sorted by name.
    members: Box<[(Box<str>, Value)]>,
}

impl KeptMembers {
    pub(super) const ID_TOKEN: &str = "id_token";

    /// Returns what a response says, and what earlier ones say of the rest.
    pub(super) fn merge(new: Option<Self>, earlier: Option<Arc<Self>>) -> Option<Arc<Self>> {
        let (new, earlier) = match (new, earlier) {
            (Some(new), Some(earlier)) => (new, earlier),
            (new, earlier) => return new.map(Arc::new).or(earlier),
        };
        let is_left_out = |(name, _): &&(Box<str>, Value)| new.find(name).is_none();
        let left_out = earlier.members.iter().filter(is_left_out).cloned();
        let left_out: Vec<_> = left_out.collect();
        let mut members = new.members.into_vec();
        members.extend(left_out);
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        Some(Arc::new(Self {
            keep: new.keep,
            scope: new.scope.or_else(|| earlier.scope.clone()),
            id_token: new.id_token.or_else(|| earlier.id_token.clone()),
            members: members.into(),
        }))
    }

    pub(super) fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    fn find(&self, name: &str) -> Option<&Value> {
        let index = self
            .members
            .binary_search_by(|(other, _)| (**other).cmp(name));
        Some(&self.members.get(index.ok()?)?.1)
    }

    pub(super) fn get(&self, name: &str) -> Result<&Value, MissingMember> {
        match self.find(name) {
            Some(value) => Ok(value),
            None if self.keep.contains(name) => Err(MissingMember::absent(name)),
            None => Err(MissingMember::not_kept(name)),
        }
    }

    pub(super) fn id_token(&self) -> Result<&IdToken, MissingMember> {
        match &self.id_token {
            Some(id_token) => Ok(id_token),
            None => Err(MissingMember::id_token(self.keep.contains(ID_TOKEN))),
        }
    }
}

/// The error for a member of the token response that is not there.
///
/// `Display` says why, and what to do.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{AccessToken, IssuedToken, TokenType};
///
/// let token = IssuedToken::from(AccessToken::new("for-tests", TokenType::BEARER)?);
/// assert!(token.get("instance_url").unwrap_err().is_not_kept());
/// # Ok::<_, tower_oauth2_client::InvalidAccessToken>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingMember {
    name: Box<str>,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Absent,
    NotKept,
    HasItsOwnPlace,
}

impl MissingMember {
    fn absent(name: &str) -> Self {
        Self::new(name, Why::Absent)
    }

    pub(super) fn not_kept(name: &str) -> Self {
        Self::new(name, Why::NotKept)
    }

    pub(super) fn id_token(is_kept: bool) -> Self {
        Self {
            name: ID_TOKEN.into(),
            why: match is_kept {
                true => Why::Absent,
                false => Why::NotKept,
            },
        }
    }

    fn new(name: &str, why: Why) -> Self {
        Self {
            name: name.into(),
            why: match place_of_its_own(name) {
                Some(_) => Why::HasItsOwnPlace,
                None => why,
            },
        }
    }

    /// Returns whether the cache does not keep this member, so that the response may have had it.
    ///
    /// It is `false` if the cache keeps the member, and the server did not send it.
    #[must_use]
    pub fn is_not_kept(&self) -> bool {
        self.why != Why::Absent
    }
}

impl fmt::Display for MissingMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Quoted(&self.name);
        match (self.why, place_of_its_own(&self.name)) {
            (Why::Absent, _) => write!(f, "the token response has no member `{name}`"),
            (Why::HasItsOwnPlace, Some(place)) => {
                write!(
                    f,
                    "`{name}` is not among the members that are kept; {place}"
                )
            }
            _ => write!(
                f,
                "the cache does not keep the member `{name}` of token responses; name it with `TokenCacheBuilder::keep_members`"
            ),
        }
    }
}

impl Error for MissingMember {}
