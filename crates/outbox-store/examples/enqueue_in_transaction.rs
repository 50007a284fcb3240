//! Records a payment in the same transaction as the caller's own books: either both exist, or neither.
//! Run it with `DATABASE_URL` naming a login that is a member of `outbox_ingest` and may write `books`.

use std::error::Error;

use outbox_core::RailName;
use outbox_store::{Enqueued, Hint, NewPayment, enqueue_in};
use sqlx::{Connection as _, PgConnection};

/// Books an invoice as paid, and records the payment that pays it. Safe to repeat: the invoice number is
/// the instruction, so a second call finds the first payment.
async fn pay_invoice(connection: &mut PgConnection, invoice: &str, cents: i64) -> Result<Enqueued, Box<dyn Error>> {
    let mut transaction = connection.begin().await?;
    sqlx::query("insert into books.paid_invoices (invoice, cents) values ($1, $2) on conflict do nothing")
        .bind(invoice)
        .bind(cents)
        .execute(&mut *transaction)
        .await?;
    let payment = NewPayment {
        participant_id: "acme".to_owned(),
        instruction_id: invoice.to_owned(),
        idempotency_key: format!("invoice-{invoice}"),
        rail: RailName::new("wire")?,
        // The rail gets exactly these bytes, on every attempt.
        payload: format!(r#"{{"invoice":"{invoice}","amount":"{}.{:02}","currency":"EUR"}}"#, cents / 100, cents % 100)
            .into_bytes(),
        content_type: "application/json".to_owned(),
        amount_minor: Some(cents),
        currency: Some("EUR".to_owned()),
        not_before: None,
        not_after: None,
        ordering_key: None,
        traceparent: None,
        attestation_id: None,
    };
    let enqueued = enqueue_in(&mut transaction, &[payment], Hint::Wake).await?;
    transaction.commit().await?;
    Ok(enqueued[0])
}

/// Pays one invoice, twice, on the database at `url`; returns both answers.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn run(url: &str) -> Result<(Enqueued, Enqueued), Box<dyn Error>> {
    let mut connection = PgConnection::connect(url).await?;
    let first = pay_invoice(&mut connection, "2026-0117", 125_000).await?;
    let again = pay_invoice(&mut connection, "2026-0117", 125_000).await?;
    connection.close().await?;
    Ok((first, again))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    use std::io::Write as _;

    let (first, again) = run(&std::env::var("DATABASE_URL")?).await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} created={}", first.outbox_id, first.created)?;
    writeln!(out, "{} created={}", again.outbox_id, again.created)?;
    Ok(())
}
