//! The failures that a test requested. Decides which one a request gets.

use std::{collections::VecDeque, sync::Arc};

use super::{failure::Failure, recorded::RecordedRequest};

pub(super) type Rule = Arc<dyn Fn(&RecordedRequest) -> Option<Failure> + Send + Sync>;

/// The requested failures: counted failures come first, then the rule, then failures that last until `recover`.
#[derive(Default)]
pub(super) struct Script {
    counted: VecDeque<(usize, Failure)>,
    rule: Option<Rule>,
    standing: Vec<Failure>,
}

impl Script {
    pub(super) fn push(&mut self, n: usize, failure: Failure) {
        if n > 0 {
            self.counted.push_back((n, failure));
        }
    }

    pub(super) fn set_standing(&mut self, failure: Failure) {
        self.standing
            .retain(|other| !failure.is_at_same_path(other));
        self.standing.push(failure);
    }

    pub(super) fn set_rule(&mut self, rule: Rule) {
        self.rule = Some(rule);
    }

    pub(super) fn next(&mut self, path: &str) -> Option<Failure> {
        let at = self
            .counted
            .iter()
            .position(|(_, failure)| failure.is_at(path))?;
        let (left, failure) = self.counted.get_mut(at)?;
        *left -= 1;
        let failure = failure.clone();
        if *left == 0 {
            self.counted.remove(at);
        }
        Some(failure)
    }

    pub(super) fn rule(&self) -> Option<Rule> {
        self.rule.clone()
    }

    pub(super) fn standing(&self, path: &str) -> Option<Failure> {
        self.standing
            .iter()
            .find(|failure| failure.is_at(path))
            .cloned()
    }
}
