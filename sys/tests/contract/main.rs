//! The backend contract, asked of every backend that the system has.
//!
//! Each question is a function of a backend in one of the modules below; the macro makes tests such
//! as `epoll::does_a_level_event_come_back` of them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a question that cannot be asked fails"
)]

mod fairness;
mod hangups;
mod history;
mod lifecycle;
mod modes;
mod readiness;
mod support;
mod timeouts;
mod wakers;

/// A module of tests for each backend.
macro_rules! contract {
    ($($(#[$cfg:meta])? $module:ident: $backend:ident,)*) => {
        $(
            $(#[$cfg])?
            mod $module {
                const BACKEND: myriapod_sys::Backend = myriapod_sys::Backend::$backend;
                questions!();
            }
        )*
    };
}

macro_rules! questions {
    () => {
        ask! {
            fairness {
                does_everything_ready_get_its_turn
                does_everything_get_its_turn_when_ready_for_both
                does_a_wait_report_no_more_than_there_is_room
                does_a_wait_append
                is_a_wait_without_room_refused
                does_a_busy_descriptor_leave_others_their_turn
            }
            hangups {
                is_a_reset_reported
                is_a_closed_unix_peer_reported
                is_a_pipe_without_writer_reported
                is_a_pipe_without_reader_reported
                is_a_pipe_that_never_had_a_reader_reported
                is_a_refused_connect_reported
                is_an_orderly_close_readable
                is_a_half_close_readable_and_nothing_more
                does_a_hang_up_leave_with_its_descriptor
            }
            history {
                do_random_histories_look_as_polling_sees_them
            }
            lifecycle {
                is_adding_twice_refused
                is_modifying_the_unknown_refused
                is_deleting_the_unknown_refused
                is_an_empty_interest_refused
                does_delete_stop_events
                can_it_be_added_again_after_delete
                does_forget_before_a_close_leave_nothing_stale
                does_forget_alone_stop_events
                does_a_close_behind_its_back_end_a_wait_at_most_once
                is_a_large_descriptor_watched_or_refused
                are_its_descriptors_closed_on_exec
                is_its_descriptor_readable_while_there_are_events
                does_an_error_name_the_descriptor
                does_it_know_its_own_name
            }
            modes {
                does_a_level_event_come_back
                does_an_edge_event_come_once
                does_modify_make_an_edge_of_what_is_there
                does_a_one_shot_event_come_once
                does_one_shot_disarm_both_directions
                does_one_shot_take_what_both_directions_have
                can_the_mode_be_changed
                is_exclusive_mode_honoured_or_refused
                does_a_refused_mode_change_nothing
            }
            readiness {
                is_a_socket_readable_once_something_came
                is_a_socket_writable_while_there_is_room
                is_there_one_event_when_both_are_ready
                is_a_listener_readable_when_a_peer_waits
                is_a_finished_connect_writable
                are_pipes_watched
                are_timers_watched
                are_all_bits_of_a_token_kept
                does_modify_replace_the_token
                does_modify_replace_the_interest
            }
            timeouts {
                is_a_timeout_never_early
                does_a_zero_timeout_not_block
                does_no_timeout_wait_for_an_event
                does_the_longest_timeout_wait_for_an_event
                does_a_signal_not_end_a_wait
                does_a_signal_not_shorten_a_timeout
            }
            wakers {
                does_a_wake_from_another_thread_end_a_wait
                do_many_wakes_make_one_event
                is_it_silent_after_a_reset
                can_it_wake_again_after_a_reset
                does_a_wake_before_the_wait_count
                do_two_wakers_have_their_own_tokens
                is_a_closed_waker_gone
                is_closing_with_another_poller_refused
                is_no_wake_lost_among_threads
            }
        }
    };
}

macro_rules! ask {
    ($($file:ident { $($question:ident)* })*) => {
        $($(
            #[test]
            fn $question() {
                crate::$file::$question(BACKEND);
            }
        )*)*
    };
}

contract! {
    #[cfg(has_epoll)]
    epoll: Epoll,
    #[cfg(has_kqueue)]
    kqueue: Kqueue,
    poll: Poll,
    select: Select,
    #[cfg(feature = "portable")]
    portable: Portable,
}
