-- Records a payment in the same transaction as your own books. Run by a test as a login that is a member
-- of outbox_ingest and may write books.paid_invoices:
--
--   psql -d payments -v invoice=2026-0117 -v cents=125000 -f docs/examples/enqueue.sql
--
-- Safe to repeat: the same instruction, key and request returns the first payment, created = f. The same
-- instruction with another amount, or under another key, is refused (OB001, OB002), and the transaction
-- with it.
\set ON_ERROR_STOP on

begin;

insert into books.paid_invoices (invoice, cents) values (:'invoice', :cents) on conflict do nothing;

-- Text is sent as its UTF-8 bytes. For any other bytes call enqueue_payment_outbox with a bytea.
select outbox_id, created
  from outbox.enqueue_payment_outbox_text(
           p_participant_id  => 'acme',
           p_instruction_id  => :'invoice',
           p_idempotency_key => 'invoice-' || :'invoice',
           p_rail            => 'wire',
           p_payload         => format('{"invoice":%s,"amount":"%s","currency":"EUR"}',
                                       to_json(:'invoice'::text), round(:cents / 100.0, 2)),
           p_content_type    => 'application/json',
           p_amount_minor    => :cents,
           p_currency        => 'EUR');

commit;
