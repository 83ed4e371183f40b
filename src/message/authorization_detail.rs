//! `AuthorizationDetail`: what a token permits, in detail (RFC 9396).

use std::fmt;

use serde_json::{Map, Value};

use crate::base::Quoted;

/// A part of what a token permits, in more detail than a scope ([RFC 9396 §2](https://www.rfc-editor.org/rfc/rfc9396#section-2)).
///
/// Each detail has a type, which the API defines. The type decides which fields it has.
///
/// # Security
///
/// `Debug` shows the type and the names of the fields. The values may contain account numbers and the like.
///
/// # Examples
///
/// ```
/// use serde_json::json;
/// use tower_oauth2_client::{AuthorizationDetail, TokenRequest};
///
/// let payment = AuthorizationDetail::new("payment_initiation")
///     .actions(["initiate", "status"])
///     .locations(["https://bank.example/payments"])
///     .field("instructedAmount", json!({ "currency": "EUR", "amount": "123.50" }));
/// let request = TokenRequest::client_credentials().authorization_details([payment]);
/// ```
#[derive(Clone, PartialEq)]
pub struct AuthorizationDetail(Map<String, Value>);

impl AuthorizationDetail {
    /// Creates a detail of this type.
    pub fn new(detail_type: impl Into<String>) -> Self {
        Self(Map::from_iter([(
            TYPE.to_owned(),
            Value::String(detail_type.into()),
        )]))
    }

    /// Sets where the token is used, for example the URIs of the API. Default is none.
    #[must_use]
    pub fn locations<T: Into<String>>(self, locations: impl IntoIterator<Item = T>) -> Self {
        self.list("locations", locations)
    }

    /// Sets what the client may do. Default is none.
    #[must_use]
    pub fn actions<T: Into<String>>(self, actions: impl IntoIterator<Item = T>) -> Self {
        self.list("actions", actions)
    }

    /// Sets which kinds of data the client may read or change. Default is none.
    #[must_use]
    pub fn datatypes<T: Into<String>>(self, datatypes: impl IntoIterator<Item = T>) -> Self {
        self.list("datatypes", datatypes)
    }

    /// Sets the resource that the client may use. Default is none.
    #[must_use]
    pub fn identifier(self, identifier: impl Into<String>) -> Self {
        self.field("identifier", identifier.into())
    }

    /// Sets the privileges of the client at the resource. Default is none.
    #[must_use]
    pub fn privileges<T: Into<String>>(self, privileges: impl IntoIterator<Item = T>) -> Self {
        self.list("privileges", privileges)
    }

    /// Sets another field, in place of an earlier value.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    fn list<T: Into<String>>(self, name: &str, words: impl IntoIterator<Item = T>) -> Self {
        let words = words.into_iter().map(|word| Value::String(word.into()));
        self.field(name, words.collect::<Vec<_>>())
    }

    /// Returns the type.
    #[must_use]
    pub fn detail_type(&self) -> &str {
        self.get(TYPE).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Reads what a server sent. `None` if it is anything but a list of objects with a type.
    pub(super) fn read_all(json: &Value) -> Option<Vec<Self>> {
        let details = json.as_array()?.iter().map(|detail| {
            let fields = detail.as_object()?;
            fields.get(TYPE)?.as_str()?;
            Some(Self(fields.clone()))
        });
        details.collect()
    }

    /// The value of the parameter `authorization_details`. Empty without any detail: then the parameter is not sent.
    pub(super) fn write_all(details: impl IntoIterator<Item = Self>) -> String {
        let details: Vec<_> = details.into_iter().map(|d| Value::Object(d.0)).collect();
        match details.is_empty() {
            true => String::new(),
            false => Value::Array(details).to_string(),
        }
    }
}

const TYPE: &str = "type";

impl fmt::Debug for AuthorizationDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.0.keys().filter(|name| *name != TYPE);
        let fields: Vec<_> = fields.map(|name| Quoted(name)).collect();
        f.debug_struct("AuthorizationDetail")
            .field("type", &Quoted(self.detail_type()))
            .field("fields", &fields)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_setter_sets_its_field() {
        let detail = AuthorizationDetail::new("t")
            .locations(["l"])
            .actions(["a", "b"])
            .datatypes(["d"])
            .identifier("i")
            .privileges(["p"])
            .field("own", json!({"x": 1}));
        let expected = json!([{
            "type": "t", "locations": ["l"], "actions": ["a", "b"], "datatypes": ["d"],
            "identifier": "i", "privileges": ["p"], "own": {"x": 1},
        }]);
        let written = AuthorizationDetail::write_all([detail.clone()]);
        let read: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(read, expected);
        assert_eq!(AuthorizationDetail::read_all(&read), Some(vec![detail]));
        assert_eq!(AuthorizationDetail::write_all([]), "");
    }

    #[test]
    fn what_is_no_list_of_typed_objects_is_not_read() {
        for json in [
            json!(null),
            json!("[]"),
            json!({"type": "t"}),
            json!(["t"]),
            json!([{}]),
            json!([{"type": 1}]),
            json!([{"type": "t"}, {"kind": "t"}]),
        ] {
            assert_eq!(AuthorizationDetail::read_all(&json), None, "{json}");
        }
        assert_eq!(AuthorizationDetail::read_all(&json!([])), Some(vec![]));
    }

    #[test]
    fn debug_shows_no_values() {
        let detail = AuthorizationDetail::new("payment").field("iban", "SECRET");
        let shown = format!("{detail:?} {detail:#?}");
        assert!(shown.contains("payment") && shown.contains("iban"));
        assert!(!shown.contains("SECRET"), "{shown}");
    }
}
