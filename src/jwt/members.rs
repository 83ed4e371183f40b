//! `Members`: what the caller adds to the claims or the header of a JWT; and `JsonObject`, which writes both.

use std::{collections::HashSet, fmt};

use serde::Serialize;
use serde_json::Value;

use crate::base::Quoted;

/// Names and their values as JSON text. Older versions of `serde_json` cannot hash a [`Value`].
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Members(Vec<(String, String)>);

impl Members {
    pub(crate) fn push(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.0.push((name.into(), value.into().to_string()));
    }

    #[cfg(feature = "token-store")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(added, _)| added == name)
    }

    /// Returns an error message if a name is one of `own`, which this crate sets, or is set twice.
    ///
    /// `what` is `claim` or `header`, and `jwt` is what the JWT is called.
    pub(crate) fn check(&self, what: &str, jwt: &str, own: &[&str]) -> Result<(), String> {
        let mut earlier = HashSet::new();
        for (name, _) in &self.0 {
            if own.contains(&name.as_str()) {
                return Err(format!(
                    "this crate sets the {what} `{name}` of the {jwt}; remove yours"
                ));
            }
            if !earlier.insert(name) {
                return Err(format!(
                    "the {what} `{}` of the {jwt} is set twice",
                    Quoted(name)
                ));
            }
        }
        Ok(())
    }
}

/// Shows only the names, because a claim may be about a person.
impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| Quoted(name));
        f.debug_list().entries(names).finish()
    }
}

/// Writes a JSON object, with its members in the order in which they are added.
///
/// It is written by hand because a map of values would cost more than everything else except the signature.
pub(crate) struct JsonObject(Vec<u8>);

impl JsonObject {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(256))
    }

    pub(crate) fn member(&mut self, name: &str, value: impl Serialize) {
        self.name(name);
        self.write(&value);
    }

    pub(crate) fn members(&mut self, members: &Members) {
        for (name, json) in &members.0 {
            self.name(name);
            self.0.extend_from_slice(json.as_bytes());
        }
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.write(name);
        self.0.push(b':');
    }

    fn write(&mut self, value: &(impl Serialize + ?Sized)) {
        // Writing texts, numbers and lists of texts to memory cannot fail.
        let _ = serde_json::to_writer(&mut self.0, value);
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}
