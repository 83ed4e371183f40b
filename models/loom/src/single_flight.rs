//! A flight whose driver has a thread of its own, as a task has.

use std::sync::Arc;

use loom::{future::block_on, thread};

use crate::{base::single_flight::Flight, model};

pub fn every_waiter_gets_the_outcome() {
    model(3, || {
        let (flight, landing) = Flight::new();
        let early = flight.join();
        let early = thread::spawn(move || assert_eq!(block_on(early.outcome()), Some(7)));
        let driver = thread::spawn(move || landing.land(7));
        // Joins before or after the end.
        assert_eq!(block_on(flight.join().outcome()), Some(7));
        assert!(!flight.is_under_way() && !flight.is_lost());
        early.join().unwrap();
        driver.join().unwrap();
    });
}

pub fn every_waiter_is_told_that_the_flight_is_lost() {
    model(3, || {
        let (flight, landing) = Flight::<u8>::new();
        let early = flight.join();
        let early = thread::spawn(move || assert_eq!(block_on(early.outcome()), None));
        let driver = thread::spawn(move || drop(landing));
        assert_eq!(block_on(flight.join().outcome()), None);
        assert!(!flight.is_under_way() && flight.is_lost());
        early.join().unwrap();
        driver.join().unwrap();
    });
}

/// What the token cache relies on when it decides whether to join a fetch or to start another.
pub fn a_flight_that_landed_is_never_seen_as_lost() {
    model(3, || {
        let (flight, landing) = Flight::new();
        let flight = Arc::new(flight);
        let observer = flight.clone();
        let observer = thread::spawn(move || {
            let was_under_way = observer.is_under_way();
            assert!(!observer.is_lost());
            assert!(was_under_way || !observer.is_under_way());
        });
        landing.land(7);
        assert!(!flight.is_under_way() && !flight.is_lost());
        observer.join().unwrap();
    });
}
