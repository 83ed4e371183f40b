//! Which token a thread may see after it saw a generation.

use std::sync::Arc;

use loom::thread;

use crate::{base::published::Published, model};

/// A token is its own generation here.
fn token(generation: u64) -> Option<Arc<u64>> {
    Some(Arc::new(generation))
}

pub fn whoever_sees_a_generation_sees_its_token_or_a_later_one() {
    model(4, || {
        let published = Arc::new(Published::empty());
        let writer = published.clone();
        let writer = thread::spawn(move || {
            writer.publish(token(1), 1);
            writer.publish(token(2), 2);
        });
        let generation = published.generation();
        let seen = published.load().as_deref().copied().unwrap_or(0);
        assert!(seen >= generation, "{seen} at generation {generation}");
        writer.join().unwrap();
        assert_eq!(published.load_full(), token(2));
    });
}

/// As after an API has refused it.
pub fn whoever_sees_that_a_token_was_withdrawn_does_not_get_it() {
    model(4, || {
        let published = Arc::new(Published::empty());
        published.publish(token(1), 1);
        let writer = published.clone();
        let writer = thread::spawn(move || writer.publish(None, 2));
        let generation = published.generation();
        let seen = published.load_full();
        assert!(generation == 1 || seen.is_none());
        writer.join().unwrap();
    });
}
