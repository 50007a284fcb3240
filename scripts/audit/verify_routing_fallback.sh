#!/usr/bin/env bash
# Looks whether a second endpoint is reached only after the first has certainly not executed: in the pure decision, in the
# database over every sequence of outcomes, and with real dispatchers and rails.
#
#   scripts/audit/verify_routing_fallback.sh
#
# Runs tests by name on a private Postgres 15; a name that is no test's is a failure.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/audit/verify_routing_fallback.sh
. scripts/lib/report.sh
. scripts/lib/named_tests.sh

step 'in the database' run_named_tests outbox-store \
  routes::no_sequence_of_outcomes_reaches_a_second_endpoint_after_an_unknown \
  routes::payment_in_doubt_stays_at_the_endpoint_it_was_sent_to_and_one_that_is_not_follows_the_lane
step 'in the dispatcher' run_named_tests outboxd dispatch::routes:: \
  routes::a_payment_in_doubt_at_the_first_endpoint_is_never_sent_to_the_second \
  routes::what_the_first_endpoint_has_certainly_not_executed_goes_to_the_second \
  routes::a_payment_in_doubt_at_an_endpoint_that_is_gone_waits_until_it_is_back
