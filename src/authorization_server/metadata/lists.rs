//! The lists of strings in a metadata document.

use serde_json::Value;

/// The strings of some members, by the names of the members.
#[derive(Clone)]
pub(super) struct Lists(Vec<(&'static str, Vec<String>)>);

impl Lists {
    /// Reads the members with these names. What is no list is left out, and so is what is no string in a list.
    pub(super) fn of(json: &Value, names: &'static [&'static str]) -> Self {
        let lists = names.iter().filter_map(|name| {
            let list = json.get(name).and_then(strings)?;
            Some((*name, list.map(str::to_owned).collect()))
        });
        Self(lists.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&[String]> {
        let mut lists = self.0.iter();
        let (_, list) = lists.find(|(other, _)| *other == name)?;
        Some(list)
    }
}

/// The strings of a list.
pub(super) fn strings(list: &Value) -> Option<impl Iterator<Item = &str> + Clone> {
    let list = list.as_array()?.iter();
    Some(list.filter_map(Value::as_str))
}
