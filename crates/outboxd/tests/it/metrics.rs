//! The page of metrics: its form, that a running daemon serves all of it truly, and that the reference page, the
//! dashboard and the alerts name nothing else.

use std::collections::{BTreeMap, BTreeSet};

use outbox_testkit::wait_until;
use outboxd::metrics::catalogue::{ALL, Kind, Metric};
use rail_sim::{Fault, Script};
use serde_json::Value;

use crate::rig::{Daemon, HOLD, LIMIT, RESEND, Rig};

const PAGE: &str = include_str!("../../../../docs/METRICS.md");
const ALERTS: &str = include_str!("../../packaging/alerts.yml");
const ALERTS_TEST: &str = include_str!("../../packaging/alerts_test.yml");
const DASHBOARD: &str = include_str!("../../packaging/grafana-dashboard.json");

/// The metric that a name in a query, or a sample, belongs to.
fn metric(name: &str) -> Option<&'static Metric> {
    let of = |name: &str| ALL.iter().find(|metric| metric.name == name);
    of(name).filter(|metric| metric.kind != Kind::Histogram).or_else(|| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
        of(base).filter(|metric| metric.kind == Kind::Histogram)
    })
}

/// What is wrong with a query: metrics that do not exist, matchers on labels that they do not have.
fn faults(query: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut names = 0;
    for (at, _) in query.match_indices("outboxd_") {
        names += 1;
        let rest = &query[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(metric) = metric(name) else {
            faults.push(format!("there is no metric {name}"));
            continue;
        };
        let matchers = after.strip_prefix('{').and_then(|inner| inner.split_once('}')).map_or("", |(inner, _)| inner);
        for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
            let label = matcher.split(['=', '!']).next().unwrap_or_default().trim();
            if !metric.labels.contains(&label) {
                faults.push(format!("{name} has no label {label}"));
            }
        }
    }
    if names == 0 {
        faults.push(format!("no metric in {query}"));
    }
    faults
}

#[test]
fn a_query_with_a_wrong_name_or_label_is_found() {
    assert_eq!(faults("max(outboxd_payments_due{rail=\"a\"}) > 1"), Vec::<String>::new());
    assert_eq!(faults("rate(outboxd_rail_latency_seconds_bucket{rail=~\"a\"}[5m])"), Vec::<String>::new());
    for wrong in [
        "outboxd_payments_dew",
        "outboxd_rail_latency_seconds",
        "outboxd_ready_count",
        "outboxd_ready{rail=\"a\"}",
        "up",
    ] {
        assert_eq!(faults(wrong).len(), 1, "{wrong}");
    }
}

#[test]
fn alerts_ask_for_metrics_that_exist_and_say_how_bad_it_is() {
    let value = |rule: &str, key: &str| -> Option<String> {
        let line = rule.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "))?;
        Some(line.trim_matches('\'').replace("''", "'"))
    };
    let rules: Vec<&str> = ALERTS.split("\n      - alert: ").skip(1).collect();
    assert_eq!(rules.len(), ALERTS.matches("expr:").count());
    let names: BTreeSet<&str> = rules.iter().filter_map(|rule| rule.lines().next()).collect();
    assert_eq!(names.len(), rules.len(), "two alerts have one name");
    for rule in rules {
        let expr = value(rule, "expr").unwrap_or_else(|| panic!("no expr in {rule}"));
        assert_eq!(faults(&expr), Vec::<String>::new(), "{rule}");
        let severity = value(rule, "labels").unwrap();
        assert!(["{severity: page}", "{severity: ticket}"].contains(&severity.as_str()), "{rule}");
        assert!(["for", "summary", "description"].iter().all(|key| value(rule, key).is_some()), "{rule}");
    }
}

/// The names in `text` that begin with `prefix`, where no word goes on.
fn named<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(prefix).filter(move |(at, _)| !text[..*at].ends_with(is_of_a_name)).map(move |(at, _)| {
        let rest = &text[at..];
        &rest[..rest.find(|c: char| !is_of_a_name(c)).unwrap_or(rest.len())]
    })
}

#[test]
fn documents_name_only_metrics_and_alerts_that_exist() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let pages = std::fs::read_dir(&docs).unwrap().chain(std::fs::read_dir(docs.join("decisions")).unwrap());
    let alerts: BTreeSet<&str> = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let mut seen = BTreeSet::new();
    let mut unknown = Vec::new();
    for path in pages.map(|page| page.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let unknown_metric = |name: &&str| metric(name).is_none() && !ALL.iter().any(|one| one.name == *name);
        let metrics = named(&text, "outboxd_").filter(unknown_metric);
        let rules = named(&text, "Outboxd").filter(|name| !alerts.contains(name));
        unknown.extend(metrics.chain(rules).map(|name| format!("{name} in {}", path.display())));
        seen.extend(named(&text, "Outboxd").map(str::to_owned));
    }
    assert_eq!(unknown, Vec::<String>::new());
    let unsaid: Vec<&&str> = alerts.iter().filter(|alert| !seen.contains(**alert)).collect();
    assert_eq!(unsaid, Vec::<&&str>::new(), "alerts that no document speaks of");
}

#[test]
fn each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() {
    let cases: Vec<&str> = ALERTS_TEST.split("\n  - name: ").skip(1).collect();
    for alert in ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let asks = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}'");
        let looks: Vec<&str> =
            cases.iter().flat_map(|case| case.split("- expr: ")).filter(|look| look.contains(&asks)).collect();
        assert!(looks.iter().any(|look| look.contains("exp_samples: []")), "{alert} is not seen silent");
        assert!(looks.iter().any(|look| look.contains("value: 1}")), "{alert} is not seen firing");
    }
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    let rows: Vec<&str> =
        panels.iter().filter(|panel| panel["type"] == "row").filter_map(|row| row["title"].as_str()).collect();
    assert_eq!(rows, ["Rails", "Money in doubt and held", "Database", "Dispatchers"]);
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            assert_eq!(faults(target["expr"].as_str().unwrap()), Vec::<String>::new(), "{panel}");
        }
    }
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
    for metric in ALL {
        assert!(DASHBOARD.contains(metric.name), "{} is nowhere on the dashboard", metric.name);
    }
}

#[test]
fn the_page_of_metrics_says_what_the_code_says() {
    let rows: BTreeMap<&str, Vec<&str>> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "))
        .map(|(name, rest)| (name, rest.split(" | ").collect()))
        .collect();
    for metric in ALL {
        let help = metric.help.trim().replace(".  ", ". ");
        let row = rows.get(metric.name).unwrap_or_else(|| panic!("{} is not on the page", metric.name));
        assert_eq!(row.len(), 4, "{row:?}");
        assert_eq!([row[0], row[1], row[3]], [metric.kind.name(), &metric.labels.join(", "), &help], "{}", metric.name);
        let units = [("_seconds", "s"), ("_minor", "minor units"), ("_ratio", "0 to 1"), ("_months", "months")];
        let unit = units.iter().find(|(suffix, _)| metric.name.ends_with(suffix));
        assert!(unit.is_none_or(|(_, unit)| row[2].ends_with(unit)), "{}: {}", metric.name, row[2]);
        assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
    }
    assert_eq!(rows.len(), ALL.len(), "the page lists metrics that the code does not have");
}

/// The samples of a page by name and labels as they stand there. Every line must be one of the format, and every
/// metric told of once, before its samples.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut told: Vec<&str> = Vec::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            told.push(help.split_once(' ').unwrap().0);
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let metric = ALL.iter().find(|metric| Some(&metric.name) == told.last()).unwrap();
            assert_eq!(kind, format!("{} {}", metric.name, metric.kind.name()));
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let value = if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap() };
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let of = metric(name).unwrap_or_else(|| panic!("unknown: {line}"));
        assert_eq!(Some(&of.name), told.last(), "{line} stands elsewhere");
        let labels = labels.strip_suffix('}').unwrap();
        let names: Vec<&str> =
            labels.split("\",").filter_map(|pair| pair.split_once("=\"")).map(|pair| pair.0).collect();
        let bucket = name.ends_with("_bucket").then_some("le");
        assert_eq!(names, of.labels.iter().copied().chain(bucket).collect::<Vec<_>>(), "{line}");
        assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
    }
    assert_eq!(told, ALL.iter().map(|metric| metric.name).collect::<Vec<_>>());
    samples
}

async fn scrape(daemon: &Daemon) -> BTreeMap<String, f64> {
    let answer = daemon.get("/metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    samples(body)
}

/// Scrapes until `holds`.
async fn scraped(daemon: &Daemon, what: &str, holds: impl Fn(&BTreeMap<String, f64>) -> bool) -> BTreeMap<String, f64> {
    let mut last = BTreeMap::new();
    let waited = wait_until(what, LIMIT, async || {
        last = scrape(daemon).await;
        holds(&last)
    });
    if let Err(error) = waited.await {
        panic!("{error}: {last:#?}");
    }
    last
}

/// Enqueues a payment; further arguments of `enqueue_payment_outbox`.
async fn enqueue(rig: &Rig, rail: &str, name: &str, arguments: &str) -> uuid::Uuid {
    let sql = format!(
        "select outbox_id from outbox.enqueue_payment_outbox('acme-account', '{name}', '{name}', '{rail}', \
         convert_to('payload-canary', 'UTF8'), 'text/plain', {arguments})"
    );
    rig.value(&sql).await
}

const EVERY_SECOND: [&str; 1] = ["dispatcher.metrics_interval=1s"];

/// The time from the enqueue to the first byte, against what the ledger has.
async fn commits_to_first_bytes_are_those_of_the_ledger(rig: &Rig, page: &BTreeMap<String, f64>) {
    let waited = page["outboxd_commit_to_first_byte_seconds_sum{rail=\"resend\"}"];
    let by_the_ledger: f64 = rig
        .value(
            "select sum(extract(epoch from a.first_byte_at - i.created_at))::float8 from outbox.payment_outbox_attempts a \
             join outbox.payment_outbox_instructions i using (outbox_id) where a.rail = 'resend' and a.attempt_no = 1",
        )
        .await;
    // Whole milliseconds at each end, and the way of the claim to the database.
    assert!((waited - by_the_ledger).abs() < 7.0 * 0.5, "{waited} s counted, {by_the_ledger} s in the ledger");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_daemon_serves_every_metric_and_the_values_are_true() {
    let rig = Rig::start().await;
    let mut script = Script::default();
    for (n, amount, currency) in [(1, 1_000, "EUR"), (2, 200, "EUR"), (3, 30, "JPY")] {
        let id = enqueue(&rig, HOLD, &format!("held-{n}"), &format!("{amount}, '{currency}'")).await;
        script = script.with_key(&id.to_string(), [Fault::ResetBefore]);
    }
    rig.hold.script(script);
    for n in 1..=7 {
        enqueue(&rig, RESEND, &format!("sent-{n}"), "1, 'EUR'").await;
    }
    let daemon = rig.daemon_with("watched", rig.proxy.address(), &EVERY_SECOND);
    rig.settled().await;
    // What is due now stays due, and one of them is in doubt.
    rig.contract(RESEND, "p_paused => true").await;
    let doubted = enqueue(&rig, RESEND, "doubted", "5000, 'USD'").await;
    rig.run(&format!("update outbox.payment_outbox_pending set in_doubt_since = clock_timestamp() - interval '1 hour' where outbox_id = '{doubted}'")).await;
    enqueue(&rig, RESEND, "late", "70, 'EUR', null, clock_timestamp() + interval '1 hour'").await;

    let at_risk = format!("outboxd_not_after_at_risk_amount_minor{{rail=\"{RESEND}\",currency=\"EUR\"}}");
    // Nothing ends any more, once the payments that were sent have left the samples that the rate is taken over.
    let stands_still = format!("outboxd_drain_forecast_seconds{{rail=\"{RESEND}\"}}");
    let seen = |page: &BTreeMap<String, f64>| {
        let forecast = page.get(&stands_still) == Some(&f64::INFINITY);
        forecast
            && page.contains_key(&at_risk)
            && page["outboxd_listener_connected"] == 1.0
            && page["outboxd_attempts_total{rail=\"resend\",state=\"DISPATCHED\"}"] == 7.0
    };
    let page = scraped(&daemon, "amounts at risk", seen).await;
    for metric in ALL {
        let served = page.keys().any(|series| series.starts_with(metric.name));
        assert!(served, "{} has no sample", metric.name);
    }
    for (series, expected) in [
        ("outboxd_ready", 1.0),
        ("outboxd_attempts_total{rail=\"resend\",state=\"DISPATCHED\"}", 7.0),
        ("outboxd_attempts_total{rail=\"hold\",state=\"IN_DOUBT\"}", 3.0),
        ("outboxd_sends_total{rail=\"resend\",kind=\"SUBMIT\",outcome=\"ACCEPTED\"}", 7.0),
        ("outboxd_sends_total{rail=\"hold\",kind=\"SUBMIT\",outcome=\"UNKNOWN\"}", 3.0),
        ("outboxd_sends_in_flight{rail=\"resend\"}", 0.0),
        ("outboxd_leases_total{rail=\"resend\"}", 7.0),
        ("outboxd_completions_total{rail=\"resend\",verdict=\"applied\"}", 7.0),
        ("outboxd_completions_total{rail=\"resend\",verdict=\"fenced\"}", 0.0),
        ("outboxd_commit_to_first_byte_seconds_count{rail=\"resend\"}", 7.0),
        ("outboxd_rail_latency_seconds_count{rail=\"resend\"}", 7.0),
        ("outboxd_rail_latency_seconds_count{rail=\"hold\"}", 0.0),
        ("outboxd_unrecorded_results", 0.0),
        ("outboxd_payments_held{rail=\"hold\",reason=\"UNKNOWN\"}", 3.0),
        ("outboxd_held_amount_minor{rail=\"hold\",reason=\"UNKNOWN\",currency=\"EUR\"}", 1_200.0),
        ("outboxd_held_amount_minor{rail=\"hold\",reason=\"UNKNOWN\",currency=\"JPY\"}", 30.0),
        ("outboxd_payments_due{rail=\"resend\"}", 2.0),
        ("outboxd_payments_in_doubt{rail=\"resend\"}", 1.0),
        ("outboxd_in_doubt_amount_minor{rail=\"resend\",currency=\"USD\"}", 5_000.0),
        ("outboxd_rail_paused{rail=\"resend\"}", 1.0),
        ("outboxd_rail_paused{rail=\"hold\"}", 0.0),
        ("outboxd_drain_forecast_seconds{rail=\"hold\"}", 0.0),
        ("outboxd_drain_forecast_seconds{rail=\"resend\"}", f64::INFINITY),
        ("outboxd_dispatcher_info{dispatcher=\"watched\",version=\"0.1.0\",state=\"RUNNING\"}", 1.0),
        ("outboxd_dispatcher_lanes{dispatcher=\"watched\"}", 2.0),
        (&at_risk, 70.0),
    ] {
        assert_eq!(page.get(series), Some(&expected), "{series} in {page:#?}");
    }
    commits_to_first_bytes_are_those_of_the_ledger(&rig, &page).await;
    let text = daemon.get("/metrics").await;
    for secret in ["payload-canary", "acme-account", &doubted.to_string(), "held-1"] {
        assert!(!text.contains(secret), "{secret} is on the page");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_the_sample_grows_old_and_its_figures_go() {
    let rig = Rig::start().await;
    let daemon = rig.daemon_with("a", rig.proxy.address(), &EVERY_SECOND);
    let due = "outboxd_payments_due{rail=\"resend\"}";
    scraped(&daemon, "a sample", |page| page.contains_key(due)).await;
    rig.proxy.refuse();
    rig.proxy.cut_all();
    let page = scraped(&daemon, "the end of the figures", |page| !page.contains_key(due)).await;
    assert!(page["outboxd_queue_sample_age_seconds"] >= 4.0, "{page:#?}");
    assert!(
        page["outboxd_queue_samples_failed_total"] >= 1.0 && page["outboxd_listener_connected"] == 0.0,
        "{page:#?}"
    );
    assert!(!page.keys().any(|series| series.starts_with("outboxd_payments_") || series.contains("partition")));
    rig.proxy.forward();
    scraped(&daemon, "a sample again", |page| page.contains_key(due)).await;
}
