//! Batches and values: what is refused, by name and without a trace, and what comes back byte for byte.

use outbox_store::{Hint, NewPayment, enqueue_batch};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use crate::conservation::assert_conserved;
use crate::enqueue_identity::enqueue_sql;
use crate::sql::{fetch, refused, run, scalar};
use crate::world::{World, payment};

#[tokio::test]
async fn payload_bytes_come_back_from_claim_unchanged() {
    let mut world = World::new().await;
    let payloads: Vec<Vec<u8>> = vec![
        (0..=255).collect(),
        vec![0],
        b"\xef\xbb\xbf<?xml version=\"1.0\"?>\r\n<Doc/>\r\n".to_vec(),
        vec![],
        vec![0xff, 0xfe, 0x00, 0xd8],
        b"{\"b\":1, \"a\":1.10,\"a\":2}".to_vec(),
        vec![0x5c; 1_048_576],
    ];
    let payments: Vec<NewPayment> = payloads
        .iter()
        .enumerate()
        .map(|(n, payload)| NewPayment { payload: payload.clone(), ..payment(&n.to_string()) })
        .collect();
    let shown = format!("{:?}", payments[6]);
    assert!(shown.contains("payload_bytes: 1048576") && shown.len() < 200, "{shown}");
    let ids = enqueue_batch(&mut world.session("t_ingest"), &payments, Hint::Wake).await.unwrap();
    let batch = world.worker("w").claim(100).await;
    for (enqueued, payload) in ids.iter().zip(&payloads) {
        let claimed = batch.leased.iter().find(|claimed| claimed.outbox_id == enqueued.outbox_id).unwrap();
        assert!(claimed.payload == *payload, "{} bytes changed", payload.len());
        let text = format!(
            "select payload_sha256 from outbox.payment_outbox_instructions where outbox_id = '{}'",
            enqueued.outbox_id
        );
        assert_eq!(scalar::<Vec<u8>>(&mut world.dba, &text).await, Sha256::digest(payload).to_vec());
    }
}

#[tokio::test]
async fn payload_stays_the_same_over_attempts() {
    let world = World::new().await;
    let payload: Vec<u8> = (0..=255).rev().collect();
    let one = NewPayment { payload: payload.clone(), ..payment("i") };
    enqueue_batch(&mut world.session("t_ingest"), &[one], Hint::Wake).await.unwrap();
    let mut worker = world.worker("w");
    for attempt_no in 1..=3 {
        let claimed = worker.claim_one().await;
        assert_eq!((claimed.attempt_no.0, &claimed.payload), (attempt_no, &payload));
        worker.complete_one(crate::world::lease(&claimed), outbox_core::Outcome::NotExecuted).await;
    }
}

#[tokio::test]
async fn one_bad_payment_of_ten_thousand_is_named_and_leaves_nothing() {
    let mut world = World::new().await;
    let mut payments: Vec<NewPayment> = (1..=10_000).map(|n| payment(&n.to_string())).collect();
    payments[7_776].currency = Some("eur".to_owned());
    let mut session = world.session("t_ingest");
    let error = enqueue_batch(&mut session, &payments, Hint::Wake).await.unwrap_err();
    assert_eq!(error.refusal(), Some("OB003"), "{error:?}");
    assert!(error.to_string().contains("payment 7777 of the batch: currency"), "{error}");
    for table in ["payment_outbox_identities", "payment_outbox_instructions", "payment_outbox_pending"] {
        assert_eq!(scalar::<i64>(&mut world.dba, &format!("select count(*) from outbox.{table}")).await, 0, "{table}");
    }
    payments[7_776].currency = Some("EUR".to_owned());
    let done = enqueue_batch(&mut session, &payments, Hint::Wake).await.unwrap();
    assert!(done.len() == 10_000 && done.iter().all(|enqueued| enqueued.created));
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn bad_value_is_refused_by_column_and_code() {
    let world = World::new().await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    let good = enqueue_sql("i", "k", "a", "");
    let with = |extra: &str| enqueue_sql("i", "k", "a", extra);
    let trace = "p_traceparent =>";
    for (column, code, text) in [
        ("participant_id", "OB003", good.replace("'acme'", "''")),
        ("participant_id", "OB003", good.replace("'acme'", "null")),
        ("instruction_id", "OB003", good.replace("'i'", &format!("'{}'", "x".repeat(201)))),
        ("idempotency_key", "OB003", good.replace("'k'", "null")),
        ("rail", "OB004", good.replace("'wire'", "'fedwire'")),
        ("rail", "OB004", good.replace("'wire'", "null")),
        ("payload", "OB003", good.replace("'a'::bytea", "null")),
        ("payload", "OB003", good.replace("'a'::bytea", "convert_to(repeat('x', 1048577), 'UTF8')")),
        ("content_type", "OB003", good.replace("application/xml", "application/xml\r\nX-Evil: 1")),
        ("content_type", "OB003", good.replace("application/xml", "")),
        ("content_type", "OB003", good.replace("application/xml", "json")),
        ("amount_minor", "OB003", good.replace("=> 100", "=> 0")),
        ("amount_minor", "OB003", good.replace("=> 100", "=> -1")),
        ("amount_minor", "OB003", good.replace("=> 100", "=> null").replace("'EUR'", "null")),
        ("currency", "OB003", good.replace("'EUR'", "'EURO'")),
        ("currency", "OB003", good.replace("'EUR'", "null")),
        ("not_before", "OB003", with(", p_not_before => 'infinity'")),
        ("not_after", "OB003", with(", p_not_after => '2020-01-01'")),
        ("not_after", "OB003", with(", p_not_before => '2999-01-02', p_not_after => '2999-01-01'")),
        ("ordering_key", "OB003", with(&format!(", p_ordering_key => '{}'", "x".repeat(201)))),
        ("traceparent", "OB003", with(&format!(", {trace} '00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01'"))),
        ("traceparent", "OB003", with(&format!(", {trace} '00-0af7-b7ad6b7169203331-01'"))),
    ] {
        let refusal = refused(&mut ingest, &text.replace('\r', "\\r")).await;
        assert_eq!((refusal.code.as_str(), refusal.column.as_deref()), (code, Some(column)), "{text:.300}");
        assert!(refusal.message.contains(&format!("payment 1 of the batch: {column} ")), "{}", refusal.message);
    }
}

#[tokio::test]
async fn database_records_the_media_types_that_a_rail_can_send_and_no_others() {
    let mut world = World::new().await;
    let refuses = "select outbox.refuse_bad_payments(array['p'], array['i'], array['k'], array['wire'], array['x'::bytea], array[$1], \
                   array[1], array['EUR'], array[null::timestamptz], array[null::timestamptz], array[null], array[null], array[null::uuid])";
    let mut texts: Vec<String> =
        ["json", "", "/", "a/b;c", "a/b ;c", "a/b ; c", "a/b;;", "a/b ", "a/b;c\u{e9}"].map(str::to_owned).into();
    texts.extend([124, 125].map(|length| format!("a/b{}", "c".repeat(length))));
    for byte in 1..=127_u8 {
        let one = char::from(byte);
        texts.extend([
            format!("{one}/b"),
            format!("a{one}/b"),
            format!("a/{one}"),
            format!("a/b{one}"),
            format!("a/b;{one}"),
            format!("a/b;{one}c"),
        ]);
    }
    for text in texts {
        let recorded = sqlx::query(refuses).bind(&text).execute(&mut world.dba).await;
        assert_eq!(recorded.is_ok(), outbox_core::is_media_type(&text), "{text:?}: {recorded:?}");
    }
}

#[tokio::test]
async fn amount_is_needed_unless_the_contract_says_otherwise() {
    let mut world = World::new().await;
    let free = enqueue_sql("i", "k", "a", "").replace("=> 100", "=> null").replace("'EUR'", "null");
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    assert_eq!(refused(&mut ingest, &free).await.column.as_deref(), Some("amount_minor"));
    world.contract("amount_required = false").await;
    run(&mut ingest, &free).await;
}

#[tokio::test]
async fn repetitions_inside_a_batch_are_one_payment_and_contradictions_refuse_the_batch() {
    let mut world = World::new().await;
    let mut session = world.session("t_ingest");
    let done = enqueue_batch(&mut session, &[payment("b"), payment("a"), payment("b")], Hint::Wake).await.unwrap();
    assert_eq!(done.iter().map(|e| e.created).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(done[0].outbox_id, done[2].outbox_id);
    assert_ne!(done[0].outbox_id, done[1].outbox_id);

    let other_request = NewPayment { amount_minor: Some(2), ..payment("c") };
    let error =
        enqueue_batch(&mut session, &[payment("c"), payment("d"), other_request], Hint::Wake).await.unwrap_err();
    assert_eq!(error.refusal(), Some("OB001"));
    assert!(error.to_string().contains("payment 3 of the batch"), "{error}");
    let other_key = NewPayment { idempotency_key: "new".to_owned(), ..payment("c") };
    let error = enqueue_batch(&mut session, &[payment("c"), other_key], Hint::Wake).await.unwrap_err();
    assert_eq!(error.refusal(), Some("OB002"));
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(*) from outbox.payment_outbox_identities").await, 2);
}

#[tokio::test]
async fn batch_with_arrays_of_different_length_is_refused() {
    let world = World::new().await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    let text = "select * from outbox.enqueue_payment_outbox_batch(array['a', 'b'], array['i'], array['k'], array['wire'], \
                array['x'::bytea], array['text/plain'], array[1::bigint], array['EUR'], array[null::timestamptz], \
                array[null::timestamptz], array[null::text], array[null::text], array[null::uuid])";
    // A time or a proof that is missing would else be taken for none.
    let short = text.replace("array['a', 'b']", "array['a']").replace("array[null::uuid]", "array[]::uuid[]");
    assert_eq!(refused(&mut ingest, &short).await.code, "OB003");
    assert_eq!(refused(&mut ingest, text).await.code, "OB003");
    assert_eq!(refused(&mut ingest, &text.replace("array['a', 'b']", "null")).await.code, "OB003");
    assert_eq!(
        refused(&mut ingest, &text.replace("array['a', 'b']", "array['a']").replace("array['k']", "null")).await.code,
        "OB003"
    );
}

#[tokio::test]
async fn lists_that_begin_elsewhere_are_refused() {
    const VALUES: [&str; 13] = [
        "'a'::text",
        "'i'::text",
        "'k'::text",
        "'wire'::text",
        "'x'::bytea",
        "'a/b'::text",
        "1::bigint",
        "'EUR'::text",
        "null::timestamptz",
        "null::timestamptz",
        "null::text",
        "null::text",
        "null::uuid",
    ];
    let mut world = World::new().await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    let call = |lists: &[String]| format!("select * from outbox.enqueue_payment_outbox_batch({})", lists.join(", "));
    let good = VALUES.map(|value| format!("array[{value}]"));
    let none = VALUES.map(|value| format!("array_fill({value}, array[0])"));
    for (place, value) in VALUES.iter().enumerate() {
        // From 0, from 0 and longer by what is before, from 2, a table of one value.
        for shape in ["array[1], array[0]", "array[2], array[0]", "array[1], array[2]", "array[1, 1]"] {
            let mut lists = good.clone();
            lists[place] = format!("array_fill({value}, {shape})");
            assert_eq!(refused(&mut ingest, &call(&lists)).await.code, "OB003", "{place}: {shape}");
        }
        let mut lists = none.clone();
        lists[place] = "null".to_owned();
        assert_eq!(refused(&mut ingest, &call(&lists)).await.code, "OB003", "{place}: null");
    }
    assert_eq!(fetch(&mut ingest, &call(&none)).await.len(), 0, "an empty batch is none");
    let mut two = good.clone();
    for (place, list) in [(1, "array['i', 'j']"), (4, "array['x'::bytea, 'y']"), (6, "array[1::bigint, 2]")] {
        two[place] = list.to_owned();
    }
    for (place, list) in two.iter_mut().enumerate().filter(|(place, _)| ![1, 4, 6].contains(place)) {
        *list = format!("array_fill({}, array[2])", VALUES[place]);
    }
    assert_eq!(fetch(&mut ingest, &call(&two)).await.len(), 2);
    let amounts = "select string_agg(concat(instruction_id, convert_from(payload, 'UTF8'), amount_minor), ' ' order by outbox_id) \
                   from outbox.payment_outbox_instructions";
    assert_eq!(scalar::<String>(&mut world.dba, amounts).await, "ix1 jy2");
}

#[tokio::test]
async fn ids_of_a_batch_are_of_its_time_and_in_its_order() {
    let mut world = World::new().await;
    let payments: Vec<NewPayment> = (0..10_000).map(|n| payment(&n.to_string())).collect();
    let millis = "select floor(extract(epoch from clock_timestamp()) * 1000)::bigint";
    let from: i64 = scalar(&mut world.dba, millis).await;
    let batch = enqueue_batch(&mut world.session("t_ingest"), &payments, Hint::Wake).await.unwrap();
    let single = enqueue_batch(&mut world.session("t_ingest"), &[payment("single")], Hint::Wake).await.unwrap();
    let until: i64 = scalar(&mut world.dba, millis).await;
    let ids: Vec<u128> = batch.iter().chain(&single).map(|one| one.outbox_id.0.as_u128()).collect();
    assert!(ids.is_sorted_by(|one, next| one >> 64 < next >> 64), "each in a later tick than the one before");
    for id in &ids {
        let made = i64::try_from(id >> 80).unwrap();
        assert!((from..=until).contains(&made), "{from} {made} {until}");
        // RFC 9562, 5.7: version 7, variant 10.
        assert_eq!((id >> 76 & 0xf, id >> 62 & 0b11), (7, 0b10));
    }
    let random: std::collections::BTreeSet<u128> = ids.iter().map(|id| id & ((1 << 62) - 1)).collect();
    assert_eq!(random.len(), ids.len());
}

#[tokio::test]
async fn batches_with_the_same_keys_in_opposite_order_never_deadlock() {
    let mut world = World::new().await;
    let (mut up, mut down) = (world.session("t_ingest"), world.session("t_ingest"));
    for round in 0..30 {
        let forwards: Vec<NewPayment> = (0..100).map(|n| payment(&format!("{round}-{n}"))).collect();
        let backwards: Vec<NewPayment> = forwards.iter().rev().cloned().collect();
        let (first, second) = tokio::join!(
            enqueue_batch(&mut up, &forwards, Hint::Wake),
            enqueue_batch(&mut down, &backwards, Hint::Wake)
        );
        let (first, second) = (first.unwrap(), second.unwrap());
        for (one, other) in first.iter().zip(second.iter().rev()) {
            assert_eq!(one.outbox_id, other.outbox_id);
            assert!(one.created != other.created);
        }
    }
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn not_before_delays_and_not_after_is_kept() {
    let mut world = World::new().await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    run(&mut ingest, &enqueue_sql("later", "k", "a", ", p_not_before => '2999-01-01', p_not_after => '2999-01-02'"))
        .await;
    run(&mut ingest, &enqueue_sql("now", "k", "a", ", p_not_before => '2020-01-01', p_not_after => '2999-01-02'"))
        .await;
    let batch = world.worker("w").claim(10).await;
    assert_eq!(batch.leased.len(), 1);
    assert_eq!(batch.leased[0].not_after, Some(time::macros::datetime!(2999-01-02 0:00 UTC)));
    assert_eq!(batch.summary.next_due_at, Some(time::macros::datetime!(2999-01-01 0:00 UTC)));
    let row = fetch(
        &mut world.dba,
        "select p.next_attempt_at = p.created_at as at_once from outbox.payment_outbox_pending p \
         join outbox.payment_outbox_instructions i using (outbox_id) where i.instruction_id = 'now'",
    )
    .await;
    assert!(row[0].get::<bool, _>("at_once"));
}

/// Arguments of a plain payment, and their types.
const PLAIN: [(&str, &str); 13] = [
    ("'acme'", "text"),
    ("'new'", "text"),
    ("'k'", "text"),
    ("'wire'", "text"),
    ("'a'", "bytea"),
    ("'text/plain'", "text"),
    ("100", "bigint"),
    ("'EUR'", "text"),
    ("null", "timestamptz"),
    ("null", "timestamptz"),
    ("null", "text"),
    ("null", "text"),
    ("null", "uuid"),
];

/// What comes of it with other arguments, by place: whether it was created, or the refusal. The instruction `old` is recorded.
const CHANGED: [(&str, &[(usize, &str)]); 33] = [
    ("true", &[]),
    ("false", &[(1, "'old'")]),
    ("OB001", &[(1, "'old'"), (4, "'b'::bytea")]),
    ("OB002", &[(1, "'old'"), (2, "'other'")]),
    ("OB003", &[(1, "'old'"), (5, "'bad'")]),
    ("OB003", &[(0, "null")]),
    ("OB003", &[(1, "''")]),
    ("OB003", &[(2, "repeat('x', 201)")]),
    ("OB004", &[(3, "'nowhere'")]),
    ("OB004", &[(3, "null")]),
    ("OB021", &[(3, "'strict'")]),
    ("true", &[(3, "'free'"), (6, "null"), (7, "null")]),
    ("OB003", &[(3, "'free'"), (6, "null")]),
    ("OB003", &[(4, "null")]),
    ("OB003", &[(4, "convert_to(repeat('x', 1048577), 'UTF8')")]),
    ("true", &[(5, "'Application/XML; charset=utf-8'")]),
    ("OB003", &[(5, "'no media type'")]),
    ("OB003", &[(6, "0")]),
    ("OB003", &[(6, "null")]),
    ("OB003", &[(6, "null"), (7, "null")]),
    ("OB003", &[(7, "null")]),
    ("OB003", &[(7, "'eur'")]),
    ("true", &[(8, "'2999-01-01'")]),
    ("OB003", &[(8, "'infinity'")]),
    ("true", &[(9, "'2999-01-01'")]),
    ("OB003", &[(9, "'infinity'")]),
    ("OB003", &[(9, "'2020-01-01'")]),
    ("OB003", &[(8, "'2999-01-02'"), (9, "'2999-01-01'")]),
    ("true", &[(10, "'in order'")]),
    ("OB003", &[(10, "''")]),
    ("true", &[(11, "'00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'")]),
    ("OB003", &[(11, "'00-AF'")]),
    ("OB021", &[(12, "'00000000-0000-0000-0000-000000000001'")]),
];

/// An enqueue in the single form and as a batch of one.
fn in_both_forms(changed: &[(usize, &str)]) -> [String; 2] {
    let value = |place: usize| changed.iter().find(|(at, _)| *at == place).map_or(PLAIN[place].0, |(_, value)| *value);
    let values: Vec<String> = (0..13).map(|place| format!("{}::{}", value(place), PLAIN[place].1)).collect();
    let arrays: Vec<String> = values.iter().map(|value| format!("array[{value}]")).collect();
    [("enqueue_payment_outbox", values), ("enqueue_payment_outbox_batch", arrays)]
        .map(|(form, values)| format!("select created from outbox.{form}({})", values.join(", ")))
}

/// Everything that was recorded, but for ids and times.
const RECORDED: &str = "select concat_ws(' ', i.participant_id, i.idempotency_key, i.generation, encode(i.identity_sha256, 'hex'), n.rail, \
         n.payload_sha256, n.content_type, n.amount_minor, n.currency, n.attestation_id, n.not_before, n.not_after, n.ordering_key, n.traceparent, \
         n.enqueued_by, n.policy_version, p.is_ordered, p.disposition, p.not_after, p.next_attempt_at > p.created_at, p.created_at = n.created_at, \
         (select count(*) from outbox.payment_outbox_order)) \
         from outbox.payment_outbox_identities i join outbox.payment_outbox_instructions n using (outbox_id) \
         join outbox.payment_outbox_pending p using (outbox_id) order by i.instruction_id";

/// The single form takes a shorter way for plain payments.
#[tokio::test]
async fn single_form_records_and_refuses_what_a_batch_of_one_does() {
    let mut world = World::new().await;
    for (rail, contract) in [("strict", "p_require_attestation => true"), ("free", "p_amount_required => false")] {
        run(&mut world.dba, &format!("select outbox.set_payment_rail('{rail}', 'hold', {contract})")).await;
    }
    run(&mut world.dba, &in_both_forms(&[(1, "'old'")])[0]).await;
    for (expected, changed) in CHANGED {
        let mut came = Vec::new();
        for form in in_both_forms(changed) {
            run(&mut world.dba, "begin").await;
            let told = sqlx::query(sqlx::AssertSqlSafe(form)).fetch_one(&mut world.dba).await;
            came.push(match told {
                Ok(row) => Ok((row.get::<bool, _>(0), crate::sql::column::<String>(&mut world.dba, RECORDED).await)),
                Err(error) => Err(crate::sql::refusal_of(&error)),
            });
            run(&mut world.dba, "rollback").await;
        }
        assert_eq!(came[0], came[1], "{changed:?}");
        let code = came.swap_remove(0).map_or_else(|refusal| refusal.code, |(created, _)| created.to_string());
        assert_eq!(code, expected, "{changed:?}");
    }
}
