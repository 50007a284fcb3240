-- Where the witnesses' own records are put, beside the outbox: what was to be paid, what the rails
-- executed and answered, and what the killed dispatcher held. Run by the superuser of the demonstration.

create schema reconcile;
create table reconcile.input_lines (line text not null);
create table reconcile.ledger_lines (rail text not null, line text not null);
create table reconcile.answer_lines (rail text not null, line text not null);
create table reconcile.leases_at_kill (outbox_id uuid primary key, rail text not null);
