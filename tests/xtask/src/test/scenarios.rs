//! The tests on the nodes of the bed: one after the other, or side by side where neither sees what the other does.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::tenant::Tenant;
use super::{
    Options, Tally, agent, bad_input, docs, faults, films, kills, releases, rights, settling, standby,
    upgrade,
};
use crate::bed::{Bed, Grade};
use crate::demo;

/// Tests on the bed, by how their names begin, that ask for nothing that a plain bed does not have.
const WITHOUT_CONTAINERS: [&str; 4] = ["demo::", "bad_input::", "standby::", "kills::"];

fn runs_on(grade: Grade, name: &str) -> bool {
    grade == Grade::Full || WITHOUT_CONTAINERS.iter().any(|begin| name.starts_with(begin))
}

/// What all of them share.
struct Scenarios<'a> {
    options: &'a Options,
    grade: Grade,
    tally: Mutex<&'a mut Tally>,
}

impl Scenarios<'_> {
    /// Runs a test if it is wanted; nothing of it happens before.
    async fn test(&self, name: &str, test: impl Future<Output = Result<()>>) {
        if !self.options.wants(name) {
            return;
        }
        let tally = || self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if !runs_on(self.grade, name) {
            println!("test {name} ... SKIPPED: it needs containers");
            tally().skipped += 1;
            return;
        }
        let began = Instant::now();
        let outcome = guarded(test).await;
        let mut tally = tally();
        tally.on_the_bed += 1;
        tally.record(name, began, outcome);
    }
}

/// Each with a tenant of its own, who leaves in any case.
macro_rules! bad_inputs {
    ($bed:expr, $client:expr, $scenarios:expr, [$($test:ident),+ $(,)?]) => {
        $(
            let name = stringify!($test);
            let namespace = name.replace('_', "-").chars().take(40).collect::<String>();
            let namespace = namespace.trim_end_matches('-');
            $scenarios.test(&format!("bad_input::{name}"), async {
                let outcome = guarded(async {
                    Tenant::leave($bed, $client, namespace).await?;
                    let tenant = Tenant::arrive($bed, $client.clone(), namespace).await?;
                    bad_input::$test(tenant).await
                })
                .await;
                outcome.and(Tenant::leave($bed, $client, namespace).await)
            })
            .await;
        )+
    };
}

macro_rules! on_the_bed {
    ($module:ident, $bed:expr, $client:expr, $scenarios:expr, [$($test:ident),+ $(,)?]) => {
        $($scenarios
            .test(concat!(stringify!($module), "::", stringify!($test)), $module::$test($bed, $client))
            .await;)+
    };
}

/// Runs those that are wanted.
pub async fn all(bed: &Bed, options: &Options, tally: &mut Tally) -> Result<()> {
    let client = bed.client().await?;
    let since = bed.audit_end();
    let all = Scenarios { options, grade: bed.grade(), tally: Mutex::new(tally) };
    all.test("demo::a_film_comes_out_past_a_neighbour_and_an_out_of_memory_end", async {
        demo::scenario(bed, &demo::Options::default()).await.map(|_| ())
    })
    .await;
    // What these tenants get wrong is seen before any GPU is looked for.
    let bad_inputs = || async {
        bad_inputs!(
            bed,
            &client,
            all,
            [
                a_missing_source_is_named,
                a_source_that_is_no_film_is_refused,
                a_failed_job_goes_when_its_time_is_up,
                a_missing_claim_needs_the_user,
                an_existing_destination_is_not_overwritten,
                a_spec_against_the_rules_is_refused_at_once,
                a_missing_profile_is_named,
                a_scale_that_is_not_offered_is_named,
                a_quota_that_refuses_pods_is_named,
            ]
        );
    };
    let faults = || async {
        on_the_bed!(
            faults,
            bed,
            &client,
            all,
            [a_black_picture_is_refused, an_ignored_pin_is_noticed, leaked_memory_is_nobodys_fault]
        );
    };
    side_by_side(bad_inputs, faults);
    let elsewhere = || async {
        bad_inputs!(bed, &client, all, [a_volume_in_use_elsewhere_is_named]);
    };
    let small = || async {
        bad_inputs!(bed, &client, all, [cards_that_are_too_small_are_counted]);
    };
    side_by_side(elsewhere, small);
    bad_inputs!(
        bed,
        &client,
        all,
        [cordoned_nodes_are_named, full_nodes_are_named, missing_reports_are_named]
    );
    all.test(
        "chart::an_upgrade_keeps_what_was_learnt_and_the_jobs",
        upgrade::keeps_what_was_learnt_and_the_jobs(bed, &client),
    )
    .await;
    // What befalls single cards is told whether another release is there or not, and its job is tried again.
    let second = || async {
        on_the_bed!(releases, bed, &client, all, [the_second_stands_back_and_names_the_first]);
    };
    let agents = || async {
        on_the_bed!(
            agent,
            bed,
            &client,
            all,
            [
                memory_that_a_host_process_takes_is_told_within_ten_seconds,
                every_process_is_told_with_its_owner,
                a_lost_card_an_xid_and_a_reload_are_told_within_fifteen_seconds,
            ]
        );
    };
    side_by_side(second, agents);
    // While one node's driver hangs the films come out on the other.
    let (hangs, hung) = watch::channel(false);
    let hang = || {
        all.test(
            "agent::a_driver_that_hangs_ends_liveness_and_no_metrics",
            agent::a_driver_that_hangs_ends_liveness_and_no_metrics(bed, &client, hangs),
        )
    };
    let films = || async {
        // Without a hang the sender is gone, and there is nothing to wait for.
        let mut hung = hung;
        hung.wait_for(|told| *told).await.map(|_| ()).unwrap_or_default();
        for kind in films::KINDS {
            all.test(&format!("films::{kind}"), films::run(bed, &client, &kind)).await;
        }
    };
    side_by_side(hang, films);
    if options.full || options.only.is_some() {
        on_the_bed!(
            faults,
            bed,
            &client,
            all,
            [
                an_engine_that_crashes_moves,
                a_swapped_gpu_is_noticed,
                an_invisible_gpu_is_noticed,
                a_card_taken_behind_a_silent_agent_is_left,
                a_neighbour_behind_a_silent_agent_is_blamed,
                a_lost_card_is_left,
                an_engine_without_host_memory_works_in_pieces,
                an_evicted_pod_comes_back,
                a_lost_nodes_pod_comes_back_elsewhere,
            ]
        );
    }
    on_the_bed!(standby, bed, &client, all, [acts_within_twenty_seconds_of_a_death]);
    for deaths in kills::plan(options.full) {
        all.test(&format!("kills::{deaths}"), kills::run(bed, &client, &deaths)).await;
    }
    if options.only.is_none() {
        let rights = async { rights::all_are_used_and_no_other_is_wanted(bed, &client, since?).await };
        all.test("chart::all_rights_are_used_and_no_other_is_wanted", rights).await;
    }
    on_the_bed!(docs, bed, &client, all, [every_command_works_and_removal_leaves_nothing]);
    all.test("bed::up_heals_what_an_interrupted_test_has_left", settling::heals(bed, &client)).await;
    Ok(())
}

/// Runs two rows of tests at once, each on a thread of its own: what blocks in one does not hold up the other.
fn side_by_side<A: Future<Output = ()>, B: Future<Output = ()>>(
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B,
) {
    let runtime = Handle::current();
    tokio::task::block_in_place(|| {
        thread::scope(|scope| {
            let one = scope.spawn(|| runtime.block_on(one()));
            runtime.block_on(other());
            one.join().unwrap_or_else(|panic| resume_unwind(panic));
        });
    });
}

/// A test that panics has failed; the others go on.
async fn guarded(test: impl Future<Output = Result<()>>) -> Result<()> {
    match AssertUnwindSafe(test).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(anyhow!("panicked: {text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bed_leaves_no_test_out() {
        for name in ["demo::a_film", "faults::an_ignored_pin_is_noticed", "agent::x"] {
            assert!(runs_on(Grade::Full, name));
            assert_eq!(runs_on(Grade::Plain, name), name.starts_with("demo::"), "{name}");
        }
    }
}
