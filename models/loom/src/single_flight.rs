//! A flight whose driver has a thread of its own, as a task has.

use std::sync::Arc;

use loom::{future::block_on, thread};

use crate::{
    base::single_flight::{End, Flight},
    model,
};

pub fn every_waiter_gets_the_outcome() {
    model(3, || {
        let (flight, landing) = Flight::new();
        let early = flight.join();
        let early = thread::spawn(move || assert_eq!(block_on(early.end()), End::Landed(7)));
        let driver = thread::spawn(move || landing.land(7));
        // Joins before or after the end.
        assert_eq!(block_on(flight.join().end()), End::Landed(7));
        assert!(!flight.is_under_way() && !flight.is_lost());
        early.join().unwrap();
        driver.join().unwrap();
    });
}

pub fn every_waiter_is_told_that_the_flight_is_lost() {
    model(3, || {
        let (flight, landing) = Flight::<u8>::new();
        let early = flight.join();
        let early = thread::spawn(move || assert_eq!(block_on(early.end()), End::Lost));
        let driver = thread::spawn(move || drop(landing));
        assert_eq!(block_on(flight.join().end()), End::Lost);
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

/// Whatever comes first is the end for every waiter.
pub fn a_flight_that_is_given_up_while_it_lands_ends_once() {
    model(3, || {
        let (flight, landing) = Flight::new();
        let flight = Arc::new(flight);
        let early = flight.join();
        let early = thread::spawn(move || block_on(early.end()));
        let driver = thread::spawn(move || landing.land(7));
        flight.give_up();
        driver.join().unwrap();
        let end = block_on(flight.join().end());
        assert!(matches!(end, End::Landed(7) | End::GivenUp));
        assert_eq!(early.join().unwrap(), end);
        assert_eq!(flight.is_lost(), end == End::GivenUp);
    });
}

/// What the token cache relies on when it takes over a fetch that spends a one-time credential.
pub fn a_flight_is_either_grounded_or_driven() {
    model(4, || {
        let (flight, landing) = Flight::<u8>::new();
        let driver = thread::spawn(move || {
            let pulse = landing.pulse();
            let mut polls = 0;
            while polls < 2 && pulse.begin_poll() {
                polls += 1;
                pulse.end_poll();
            }
            polls
        });
        let grounds = [flight.ground(), flight.ground()];
        let is_grounded = grounds == [true, false];
        assert!(is_grounded || grounds == [false, false]);
        assert_eq!(driver.join().unwrap(), if is_grounded { 0 } else { 2 });
    });
}
