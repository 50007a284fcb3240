//! Whether months that were made long ago, or ahead, make a drain slower.

use crate::error::BenchError;
use crate::meter::Cost;
use crate::work::drain;
use crate::world::{World, run, value};

/// A drain of `count` payments with so many months of each month table: made besides, or taken away.
///
/// # Errors
/// When the server refuses, or the daemon fails.
pub(crate) async fn drain(world: &World, count: u64, months: i64, settings: &[String]) -> Result<Cost, BenchError> {
    const NOT_NOW: &str = "select coalesce(string_agg(format('drop table outbox.%I', c.relname), ';'), '') \
        from pg_class c join pg_namespace n on n.oid = c.relnamespace \
        where n.nspname = 'outbox' and c.relispartition and c.relkind = 'r' and c.relname ~ '_y[0-9]{4}m[0-9]{2}$' \
          and c.relname !~ (to_char(now() at time zone 'utc', '\"_y\"YYYY\"m\"MM') || '$')";
    let db = world.outbox().await?;
    let made: i64 =
        value(&db, "select count(*) from pg_inherits i where i.inhparent = 'outbox.payment_outbox_attempts'::regclass")
            .await?;
    if months == 1 {
        let drops: String = value(&db, NOT_NOW).await?;
        run(&db, &drops).await?;
    } else if months > made {
        run(&db, &more(months - made)).await?;
    }
    drain::within(world, &db, count, 1, settings).await
}

/// Months before those that there are, empty like those of a quiet past.
fn more(months: i64) -> String {
    format!(
        "do $do$ declare t record; m timestamptz; begin \
         for t in select * from outbox.month_tables() loop \
           for m in select generate_series(date_trunc('month', now(), 'UTC') - interval '{} months', \
                                           date_trunc('month', now(), 'UTC') - interval '2 months', '1 month') loop \
             execute format('create table outbox.%I partition of outbox.%I for values from (%L) to (%L)', \
               t.name || to_char(m at time zone 'utc', '\"_y\"YYYY\"m\"MM'), t.name, \
               outbox.outbox_id_floor(m), outbox.outbox_id_floor((m at time zone 'utc' + interval '1 month') at time zone 'utc')) ; \
           end loop; end loop; end $do$",
        months + 1
    )
}
