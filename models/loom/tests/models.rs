//! Each model is a test.

macro_rules! models {
    ($($model:ident)*) => {
        $(
            #[test]
            fn $model() {
                tower_oauth2_client_loom::$model();
            }
        )*
    };
}

models! {
    a_flight_is_either_grounded_or_driven
    a_flight_that_is_given_up_while_it_lands_ends_once
    a_flight_that_landed_is_never_seen_as_lost
    a_panic_of_the_future_is_the_end_for_every_waiter
    a_waiter_goes_on_when_another_is_alive_but_no_longer_polled
    a_waiter_goes_on_when_another_is_dropped_after_its_first_poll
    a_waiter_goes_on_when_the_future_takes_several_steps
    every_waiter_gets_the_outcome
    every_waiter_is_told_that_the_flight_is_lost
    every_waiter_is_woken
    the_future_is_dropped_with_the_last_waiter
    waiters_that_join_after_the_end_do_not_hinder_each_other
    whoever_sees_a_generation_sees_its_token_or_a_later_one
    whoever_sees_that_a_token_was_withdrawn_does_not_get_it
}
