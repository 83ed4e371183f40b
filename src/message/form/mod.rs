//! The form of a request to an authorization server, and what goes beside it.

mod equality;
mod extras;
mod readable;

use std::{borrow::Cow, collections::HashMap, sync::Arc};

pub(crate) use self::readable::CalledSlot;
pub(super) use self::{extras::Extras, readable::Notes};
use crate::{
    base::Quoted,
    message::{
        parameter::Parameter,
        scope::{self, Scope},
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

/// Where each name is first used, for a request with many parameters.
#[derive(Clone, Default)]
pub(super) struct Names {
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

    /// Takes over the parameters of `other` that `keeps` accepts, its headers, its overrides, its label, its context, its
    /// partition and its sign-in.
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
                sign_in: extras.sign_in.clone(),
                ..Extras::default()
            })
        });
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
