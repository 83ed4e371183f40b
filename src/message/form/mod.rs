//! The form of a request to an authorization server, and what goes beside it.

mod equality;
mod readable;

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Uri};

pub(crate) use self::readable::CalledSlot;
pub(super) use self::readable::Notes;
use crate::{
    base::{Quoted, uri},
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    message::{
        IdTokenChecks,
        parameter::Parameter,
        polling_terms::PollingTerms,
        scope::{self, Scope},
        secret_names,
    },
    secret::{Credential, Secret},
};

/// The parameters of a request, in order, and what goes beside them.
///
/// Two forms are equal if they are sent the same, except for the order of the words in a scope, and refused or not refused the same.
/// Credentials of providers are compared by their provider, and neither label nor context is compared.
#[derive(Clone, Default)]
pub(crate) struct Form(Arc<Inner>);

#[derive(Clone, Default)]
struct Inner {
    parameters: Vec<Parameter>,
    /// Boxed, because most requests have none and a cache holds many requests.
    extras: Option<Box<Extras>>,
}

/// Everything in a request except its parameters.
///
/// What is large is boxed: a cache may hold many requests of which each has a label and nothing else.
#[derive(Clone, Default)]
pub(super) struct Extras {
    headers: Option<Box<HeaderMap>>,
    endpoint: Option<Box<Uri>>,
    pub(super) client_authentication: Option<Box<ClientAuthentication>>,
    pub(super) dpop: Option<DpopKey>,
    /// Neither sent nor compared.
    pub(super) polling: Option<Box<PollingTerms>>,
    /// Neither sent nor compared.
    pub(super) id_token_checks: Option<Arc<IdTokenChecks>>,
    /// The server that issued the credentials. Neither sent nor compared.
    pub(super) issuer: Option<Arc<String>>,
    /// For logs. Neither sent nor compared.
    pub(super) label: Option<Box<str>>,
    /// For the layers below. Neither sent nor compared.
    pub(super) context: Extensions,
    /// Keeps equal requests apart. Compared, but not sent.
    pub(super) partition: Option<Box<str>>,
    /// What the cache and the layer note for themselves. Neither sent nor compared.
    pub(super) notes: Option<Box<Notes>>,
    invalid: Option<Box<str>>,
    /// Not compared: it follows from the parameters.
    names: Option<Box<Names>>,
}

/// Where each name is first used, for a request with many parameters.
#[derive(Clone, Default)]
struct Names {
    first: HashMap<Cow<'static, str>, usize>,
    /// How many parameters have been looked at.
    seen: usize,
}

impl Inner {
    /// Returns the parameter that is set already with the same value, if none of the two may be repeated.
    fn same(&mut self, new: &Parameter) -> Option<&mut Parameter> {
        let index = match new.repeatable {
            true => None,
            false => self.first(&new.name),
        };
        let earlier = self.parameters.get_mut(index?)?;
        (!earlier.repeatable && *earlier == *new).then_some(earlier)
    }

    /// Returns the index of the first parameter with this name. A few are compared one by one, which needs no allocation.
    fn first(&mut self, name: &str) -> Option<usize> {
        if self.parameters.len() <= FEW {
            return self.parameters.iter().position(|p| p.name == name);
        }
        let extras = self.extras.get_or_insert_default();
        let names = extras.names.get_or_insert_default();
        for (index, parameter) in self.parameters.iter().enumerate().skip(names.seen) {
            names.first.entry(parameter.name.clone()).or_insert(index);
        }
        names.seen = self.parameters.len();
        names.first.get(name).copied()
    }
}

impl Form {
    /// Adds a parameter, unless it is [left out](Parameter::is_left_out), or is set already with the same value.
    pub(super) fn push(&mut self, parameter: Parameter) {
        let value = parameter.value.known();
        if value.is_some_and(|value| parameter.is_left_out(value.expose())) {
            return;
        }
        let inner = Arc::make_mut(&mut self.0);
        if let Some(same) = inner.same(&parameter) {
            same.checked |= parameter.checked;
            same.value.hide_like(&parameter.value);
            return;
        }
        let parameters = &mut inner.parameters;
        // Most requests have few parameters, and a cache may hold many requests.
        if parameters.len() < FEW {
            parameters.reserve_exact(1);
        }
        parameters.push(parameter);
    }

    /// Sets a parameter in place of all that have its name, at the place of the first one.
    pub(super) fn replace(&mut self, new: Parameter) {
        let first = self.parameters().iter().position(|p| p.name == new.name);
        let Some(first) = first else {
            return self.push(new);
        };
        let value = new.value.known();
        let is_left_out = value.is_some_and(|value| new.is_left_out(value.expose()));
        let name = new.name.clone();
        let mut new = Some(new).filter(|_| !is_left_out);
        let inner = Arc::make_mut(&mut self.0);
        if let Some(extras) = &mut inner.extras {
            // It contains places that no longer hold.
            extras.names = None;
        }
        let mut index = 0;
        inner.parameters.retain_mut(|parameter| {
            let is_first = index == first;
            index += 1;
            match (
                parameter.name == name,
                is_first.then(|| new.take()).flatten(),
            ) {
                (true, Some(mut new)) => {
                    new.repeatable |= parameter.repeatable;
                    *parameter = new;
                    true
                }
                (is_old, _) => !is_old,
            }
        });
    }

    /// Adds words to the scope, unless a provider returns the scope: then it is set twice.
    pub(super) fn add_scope(&mut self, scope: &Scope) {
        let index = self.parameters().iter().position(|p| p.scope().is_some());
        let index = index.filter(|_| !scope::is_empty(scope.as_str()));
        match index.and_then(|index| self.parameters_mut().get_mut(index)) {
            Some(parameter) => {
                let earlier = parameter.scope().unwrap_or_default();
                let mut union = Credential::from(scope::union(earlier, scope.as_str()));
                union.hide_like(&parameter.value);
                parameter.value = union;
            }
            None => self.push(Parameter::checked("scope", scope.as_str())),
        }
    }

    /// Adds a header, and marks it sensitive if its name says so. The first one that is invalid is [remembered](Self::invalid).
    pub(super) fn push_header<K, V>(&mut self, name: K, value: V)
    where
        K: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        let extras = self.extras_mut();
        let invalid = match name.try_into() {
            Ok(name) => match value.try_into() {
                Ok(mut value) => {
                    value.set_sensitive(
                        value.is_sensitive() || secret_names::is_secret(name.as_str()),
                    );
                    extras.headers.get_or_insert_default().append(name, value);
                    return;
                }
                Err(_) => format!(
                    "the value of the header `{}` is invalid",
                    Quoted(name.as_str())
                ),
            },
            Err(_) => "the name of a header is invalid".to_owned(),
        };
        extras.invalid.get_or_insert(invalid.into());
    }

    /// Sets a header in place of all that have its name.
    pub(super) fn replace_header<K, V>(&mut self, name: K, value: V)
    where
        K: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match name.try_into() {
            Ok(name) => {
                if let Some(headers) = &mut self.extras_mut().headers {
                    headers.remove(&name);
                }
                self.push_header(name, value);
            }
            Err(_) => self.push_header("", value),
        }
    }

    /// Sets the endpoint that this request goes to instead of that of the service, which is called `name`. An invalid URI is
    /// [remembered](Self::invalid).
    pub(super) fn set_endpoint(&mut self, name: &str, uri: impl fmt::Display) {
        let extras = self.extras_mut();
        match uri::parse(uri) {
            Ok(uri) => extras.endpoint = Some(Box::new(uri)),
            Err(why) => {
                let invalid = format!("the URI of the {name} {why}");
                extras.invalid.get_or_insert(invalid.into());
            }
        }
    }

    /// Takes over the parameters of `other` that `keeps` accepts, its headers, its overrides, its label, its context and
    /// its partition.
    pub(super) fn take_over(&mut self, other: &Self, keeps: impl Fn(&str) -> bool) {
        let inner = Arc::make_mut(&mut self.0);
        let kept = other.0.parameters.iter().filter(|p| keeps(&p.name));
        inner.parameters.extend(kept.cloned());
        inner.extras = other.0.extras.as_deref().map(|extras| {
            Box::new(Extras {
                headers: extras.headers.clone(),
                endpoint: extras.endpoint.clone(),
                client_authentication: extras.client_authentication.clone(),
                dpop: extras.dpop.clone(),
                issuer: extras.issuer.clone(),
                label: extras.label.clone(),
                context: extras.context.clone(),
                partition: extras.partition.clone(),
                ..Extras::default()
            })
        });
    }

    /// Returns the issuer of the only server that may get this request, if there is only one.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.extras().issuer.as_deref().map(String::as_str)
    }

    pub(crate) fn parameters(&self) -> &[Parameter] {
        &self.0.parameters
    }

    pub(super) fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut Arc::make_mut(&mut self.0).parameters
    }

    /// Returns the first parameter that is set again although it may not be, or although `is_once` says that it is set only once.
    pub(crate) fn repeated_name(&self, is_once: impl Fn(&str) -> bool) -> Option<&str> {
        let parameters = self.parameters();
        let mut seen = HashMap::new();
        let repeated = parameters.iter().enumerate().find(|(index, parameter)| {
            let Parameter {
                name, repeatable, ..
            } = parameter;
            // A few are compared with each other, which needs no allocation.
            let earlier = match parameters.len() {
                ..=FEW => {
                    let mut earlier = parameters[..*index].iter();
                    earlier.find(|p| p.name == *name).map(|p| p.repeatable)
                }
                _ => seen.insert(&**name, *repeatable),
            };
            earlier.is_some_and(|earlier| !(earlier && *repeatable) || is_once(name))
        });
        repeated.map(|(_, parameter)| &*parameter.name)
    }

    /// Returns the value of a parameter, if it is a fixed string.
    pub(crate) fn known(&self, name: &str) -> Option<&str> {
        let parameter = self.0.parameters.iter().find(|p| p.name == name)?;
        parameter.value.known().map(Secret::expose)
    }

    pub(super) fn extras(&self) -> &Extras {
        static NOTHING: LazyLock<Extras> = LazyLock::new(Extras::default);
        self.0.extras.as_deref().unwrap_or_else(|| &NOTHING)
    }

    pub(super) fn extras_mut(&mut self) -> &mut Extras {
        Arc::make_mut(&mut self.0).extras.get_or_insert_default()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
        self.extras().headers.as_deref().unwrap_or_else(|| &NONE)
    }

    pub(crate) fn context(&self) -> &Extensions {
        &self.extras().context
    }

    /// The endpoint that this request goes to instead of that of the service.
    pub(crate) fn endpoint_override(&self) -> Option<&Uri> {
        self.extras().endpoint.as_deref()
    }

    /// The client that sends this request instead of that of the service.
    pub(crate) fn client_override(&self) -> Option<&ClientAuthentication> {
        self.extras().client_authentication.as_deref()
    }

    /// The key that this request uses instead of that of the service.
    pub(crate) fn dpop_override(&self) -> Option<&DpopKey> {
        self.extras().dpop.as_ref()
    }

    /// Refuses the request for this reason, unless an earlier setter did.
    pub(super) fn refuse(&mut self, why: impl Into<Box<str>>) {
        self.extras_mut().invalid.get_or_insert(why.into());
    }

    /// Returns the error of the first setter that was passed an invalid value.
    pub(crate) fn invalid(&self) -> Option<&str> {
        self.extras().invalid.as_deref()
    }
}

/// The number of parameters that most requests do not exceed.
const FEW: usize = 16;

/// The names of parameters for `Debug`.
pub(super) fn printable_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Quoted<'a>> {
    const MAX: usize = 32;
    let mut names: Vec<_> = names.take(MAX + 1).map(Quoted).collect();
    if let Some(more) = names.get_mut(MAX) {
        *more = Quoted("...");
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache with a million labelled requests holds as many of these.
    #[test]
    fn what_a_label_costs_beside_its_text_is_small() {
        assert!(size_of::<Extras>() <= 128, "{}", size_of::<Extras>());
    }
}
