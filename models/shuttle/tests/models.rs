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
    a_panic_of_the_endpoint_reaches_every_caller_and_the_cache_recovers
    a_panic_of_the_http_client_reaches_every_caller_and_discovery_recovers
    a_waiter_starts_an_overdue_fetch_again
    callers_share_one_fetch_whoever_of_them_is_dropped
    every_caller_is_woken_whoever_of_them_is_dropped
    stale_metadata_serve_while_one_task_renews_them
    whoever_is_told_of_a_new_token_finds_it
}
