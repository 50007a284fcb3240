#!/usr/bin/env bash
# Looks whether results are recorded in batches, by size and by time, whether payments under way are bounded, and whether
# nothing more is claimed while results cannot be recorded.
#
#   scripts/audit/verify_batching_rules.sh
#
# Runs tests by name on a private Postgres 15; a name that is no test's is a failure.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/audit/verify_batching_rules.sh
. scripts/lib/report.sh
. scripts/lib/named_tests.sh

step 'batches, bounds and backpressure' run_named_tests outboxd \
  batching::results_are_recorded_in_one_call_as_soon_as_a_batch_is_full \
  batching::results_that_fill_no_batch_are_recorded_when_the_interval_is_over \
  batching::no_more_payments_are_under_way_than_the_rail_has_places \
  fail_closed_running::nothing_is_claimed_while_results_cannot_be_recorded \
  database_faults::a_database_too_slow_for_a_whole_batch_of_results_gets_smaller_ones
