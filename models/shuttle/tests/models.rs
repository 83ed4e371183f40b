//! Each model is a test.

macro_rules! models {
    ($($model:ident)*) => {
        $(
            #[test]
            fn $model() {
                tower_oauth2_client_shuttle::$model();
            }
        )*
    };
}

models! {
    a_fetch_ends_with_the_last_handle
    a_fetch_that_everybody_left_does_not_hinder_the_next
    a_fetch_that_was_given_up_serves_nobody_who_comes_later
    a_fetch_that_needs_another_token_of_the_cache_is_not_stuck
    a_panic_of_the_endpoint_reaches_every_caller_and_the_cache_recovers
    a_refresh_token_is_sent_once_whoever_takes_over
    a_shutdown_waits_for_every_refresh_token_that_was_sent
    a_panic_of_the_http_client_reaches_every_caller_and_discovery_recovers
    a_waiter_starts_an_overdue_fetch_again
    callers_share_one_fetch_whoever_of_them_is_dropped
    every_caller_in_the_queue_is_served_whoever_of_them_is_dropped
    every_caller_is_woken_whoever_of_them_is_dropped
    renewals_and_callers_in_the_queue_are_served
    stale_metadata_serve_while_one_task_renews_them
    waiters_take_over_a_fetch_that_nobody_drives
    whoever_is_told_of_a_new_token_finds_it
}
