# shellcheck shell=bash
# One line that says how far the payments are: rewritten on a terminal, otherwise a new one now and then.
# Without colours. Sourced by scripts/demo.sh, which defines `ask` and sets PAYMENTS.

PROGRESS_AT=-9
PROGRESS_EVERY_S=2
PROGRESS_OPEN=no
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then PROGRESS_EVERY_S=0; fi

# show_progress [now]: the line, unless the last is too young.
show_progress() {
  local line
  if [ "${1:-}" != now ] && [ $((SECONDS - PROGRESS_AT)) -lt "$PROGRESS_EVERY_S" ]; then return 0; fi
  PROGRESS_AT=$SECONDS
  line=$(ask "select format('%s of $PAYMENTS ended: %s dispatched, %s failed, %s held; %s in flight, %s to do',
                            a.dispatched + a.failed + p.held, a.dispatched, a.failed, p.held, p.leased, p.free)
                from (select count(*) filter (where b.state = 'DISPATCHED') as dispatched,
                             count(*) filter (where b.state = 'FAILED') as failed
                        from outbox.payment_outbox_attempts b) as a,
                     (select count(*) filter (where q.disposition = 'HELD') as held,
                             count(q.lease_token) as leased,
                             count(*) filter (where q.disposition <> 'HELD' and q.lease_token is null) as free
                        from outbox.payment_outbox_pending q) as p")
  if [ "$PROGRESS_EVERY_S" -eq 0 ]; then
    # To the first column, and what is left of a longer line is wiped.
    printf '\r%s\033[K' "$line"
    PROGRESS_OPEN=yes
  else
    say "$line"
  fi
}

# end_progress: what follows begins on a line of its own.
end_progress() {
  if [ "$PROGRESS_OPEN" = yes ]; then printf '\n'; fi
  PROGRESS_OPEN=no
}
