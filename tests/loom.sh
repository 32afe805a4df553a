#!/usr/bin/env bash
# Runs the loom models of the allocator, then each with its seeded faults, which have to fail it.
# LOOM_MAX_PREEMPTIONS (2) widens the search. The build has its own target directory.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg zonal_loom" RUST_BACKTRACE=0
export CARGO_TARGET_DIR="${LOOM_TARGET_DIR:-target/loom}"
unset ZONAL_FAULT

# Which test has to notice which fault.
faults="
futex_no_wake             lock::waiters
futex_no_wake             lock::errands_of_others
futex_no_wake             gate::visitor
futex_no_wake             gate::fork
lock_release_relaxed      lock::
lock_leaves_early         lock::errands
gate_no_heavy_barrier     gate::visitor
gate_no_light_barrier     gate::visitor
gate_leave_relaxed        gate::visitor
gate_end_relaxed          gate::visitor
inbox_post_relaxed        inbox::
inbox_take_relaxed        inbox::
inbox_own_relaxed         inbox::own_messages
inbox_own_take_relaxed    inbox::own_messages
inbox_own_unmarked        inbox::own_messages
barn_relaxed              barn::
barn_in_two_steps         barn::
registry_table_relaxed    registry::publication
registry_publish_relaxed  registry::publication
registry_common_unlocked  registry::commons
deferred_push_relaxed     deferred::stack
deferred_take_relaxed     deferred::stack
deferred_free_relaxed     deferred::arena
pagemap_cover_relaxed     pagemap::
pagemap_claim_in_two_steps pagemap::claims
seq_no_write_fence        live::
seq_no_read_fence         live::
seq_end_relaxed           live::
gate_try_blind            gate::try_enter
gate_no_heavy_barrier     gate::try_enter
gate_hurry_blind          gate::elsewhere
mark_torn                 mark::hits
mark_not_taken_back       mark::hits
gate_no_heavy_barrier     mark::hits
mark_set_relaxed          mark::hits
mark_unread               mark::hits
mark_late                 mark::hits
mark_closed_over          mark::hits
mark_outside              mark::hits
mark_end_opens            mark::hits
gate_end_relaxed          mark::later
mark_end_blind            mark::handlers
mark_taken_once           mark::handlers
mark_back_blind           mark::what_is_left
mark_closed_over          mark::the_next_owner
mark_absent_relaxed       mark::the_next_owner
mark_close_relaxed        mark::the_next_owner
registry_take_visited     mark::the_next_owner
gate_no_heavy_barrier     runs::
gate_visited_relaxed      runs::
gate_end_relaxed          runs::
mark_set_relaxed          runs::
runs_look_relaxed         runs::
runs_mark_unread          runs::
runs_claim_unread         runs::
runs_slow_as_hit          runs::
section_add_relaxed       section::
charge_in_two_steps       charge::
kept_in_two_steps         kept::
doorbell_ring_relaxed     doorbell::nothing
doorbell_retire_relaxed   doorbell::nothing
doorbell_retire_blind     doorbell::nothing
doorbell_hurry_silent     doorbell::hurry
doorbell_wake_relaxed     doorbell::wake
doorbell_round_silent     doorbell::round
registry_take_shared      registry::succession
registry_take_visited     life::threads
gate_visited_relaxed      life::threads
registry_share_full       life::ends
gate_no_heavy_barrier     life::threads
gate_end_relaxed          life::threads
inbox_post_relaxed        life::inheritance
live_free_relaxed         profile::live_slots
live_insert_relaxed       profile::live_cleared
stacks_frames_relaxed     profile::stacks
lock_release_relaxed      fence::users
fence_frees_twice         fence::frees
fence_slots_relaxed       fence::onlooker
fence_free_relaxed        fence::neighbours
fence_forgets_left        fence::users
fence_left_relaxed        fence::users
lookout_due_blind         lookout::
"

echo "building the models"
tests=$(cargo test -q -p zonal-allocator --lib --release --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)

failed=0
output=$("$tests" loom:: --nocapture --test-threads=2 2>&1) || failed=1
printf '\n%-20s %11s %8s  %s\n' model executions seconds "situations reached"
sed -n 's/^.*model \([a-z]*:[a-z]* .*\)/\1/p' <<<"$output" | sort |
    while read -r name executions seconds situations; do
        printf '%-20s %11s %8s  %s\n' "$name" "$executions" "$seconds" "$situations"
    done
if ((failed)); then
    printf '\n%s\n' "$output"
    exit 1
fi

printf '\n%-26s %-24s %s\n' "seeded fault" "run against" outcome
while read -r fault model; do
    [[ -n $fault ]] || continue
    if output=$(ZONAL_FAULT=$fault timeout 600 "$tests" "loom::$model" --nocapture 2>&1); then
        outcome="NOT NOTICED"
        failed=1
    elif ! outcome=$(grep -m1 -A1 'panicked at' <<<"$output" | tail -1); then
        outcome="NO VERDICT: ${output##*$'\n'}"
        failed=1
    fi
    printf '%-26s %-24s %.60s\n' "$fault" "$model" "$outcome"
done <<<"$faults"

# Every fault that the sources can seed is in the list above.
for fault in $(grep -rhoE '(fault|weakened_by)\("[a-z_]+"' allocator/src stats/src | cut -d'"' -f2 | sort -u); do
    if ! grep -qw "$fault" <<<"$faults"; then
        echo "$fault is seeded by no run"
        failed=1
    fi
done
exit "$failed"
