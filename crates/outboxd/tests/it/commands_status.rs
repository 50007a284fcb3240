//! `status`, and how people's commands find the database.

use std::path::Path;
use std::time::Duration;

use outbox_testkit::{ChildGuard, Signal, wait_until};
use serde_json::{Value, json};

use crate::commands_binary::{Desk, OUTBOXD, end, text};

async fn desk_with_payments() -> Desk {
    let desk = Desk::with_rails().await;
    let lines = "{\"instruction_id\":\"due\",\"payload\":\"x\"}\n{\"instruction_id\":\"also\",\"payload\":\"x\"}\n\
                 {\"instruction_id\":\"later\",\"payload\":\"x\",\"not_before\":\"2999-01-01T00:00:00Z\"}\n";
    let file = desk.file("in.ndjson", lines);
    let options = ["--participant", "p", "--rail", "telex", "--content-type", "text/plain"];
    assert_eq!(desk.enqueue(text(&file), &options).code, Some(0));
    desk
}

#[tokio::test]
async fn each_rail_says_where_its_payments_are() {
    let desk = desk_with_payments().await;
    assert_eq!(desk.run("t_operator", &["rail", "set", "sepa", "--paused", "true"]).code, Some(0));
    for login in ["t_operator", "t_monitor", "t_auditor"] {
        let ended = desk.run(login, &["status", "--output", "json", "--since", "all"]);
        let status = ended.json();
        assert_eq!((status["since"].clone(), ended.err.as_str()), (Value::Null, ""));
        let telex = status["rails"].as_array().unwrap().iter().find(|rail| rail["rail"] == "telex").unwrap();
        for (key, value) in [
            ("due", 2),
            ("waiting", 1),
            ("in_flight", 0),
            ("in_doubt", 0),
            ("held", 0),
            ("dispatched", 0),
            ("failed", 0),
        ] {
            assert_eq!(telex[key], json!(value), "{key}");
        }
        assert!(telex["oldest_due_ms"].as_u64().is_some() && telex["paused"] == json!(false), "{telex}");
    }
    let ended = desk.run("t_monitor", &["status"]);
    let row = |rail: &str| -> Vec<&str> {
        ended.out.lines().find(|line| line.trim().starts_with(rail)).unwrap().split_whitespace().collect()
    };
    assert_eq!((row("telex")[1], row("telex")[3], *row("telex").last().unwrap()), ("2", "1", "on"), "{}", ended.out);
    assert_eq!((row("sepa")[1], *row("sepa").last().unwrap()), ("0", "PAUSED"), "{}", ended.out);
    assert!(ended.out.starts_with("at 2") && ended.out.contains("Z; dispatched and failed since 2"), "{}", ended.out);
}

#[tokio::test]
async fn status_says_which_payment_holds_up_which_and_how_much_money() {
    let desk = Desk::with_rails().await;
    let line = |id: &str, key: &str, amount: u32, currency: &str| {
        format!(
            "{{\"instruction_id\":\"{id}\",\"payload\":\"x\",\"ordering_key\":\"{key}\",\"amount_minor\":{amount},\"currency\":\"{currency}\"}}\n"
        )
    };
    let lines = [
        line("first", "acct\\u001b[2J", 100, "EUR"),
        line("second", "acct\\u001b[2J", 250, "EUR"),
        line("third", "acct\\u001b[2J", 70, "USD"),
        line("alone", "other", 9, "EUR"),
    ];
    let file = desk.file("in.ndjson", lines.concat());
    let options = ["--participant", "p", "--rail", "telex", "--content-type", "text/plain"];
    let ended = desk.enqueue(text(&file), &options);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let blocked = || desk.run("t_monitor", &["status", "--output", "json"]).json()["blocked_keys"].clone();
    let first = blocked()[0]["first_outbox_id"].as_str().unwrap().to_owned();
    let held = desk.run("t_operator", &["hold", &first, "--reason", "r", "--confirm", "1"]);
    assert_eq!(held.code, Some(0), "{held:?}");
    let keys = blocked();
    let keys = keys.as_array().unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let key = &keys[0];
    assert_eq!(
        (&key["ordering_key"], &key["disposition"], &key["hold_reason"], &key["blocked"], &key["amounts"]),
        (&json!("acct\u{1b}[2J"), &json!("HELD"), &json!("REQUESTED"), &json!(2), &json!({"EUR": 250, "USD": 70}))
    );
    let shown = desk.run("t_monitor", &["status"]).out;
    let row = shown.lines().find(|line| line.contains("HELD REQUESTED")).unwrap();
    assert!(row.contains(key["first_outbox_id"].as_str().unwrap()) && row.contains("250 EUR, 70 USD"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[tokio::test]
async fn status_is_watched_until_interrupted() {
    let desk = Desk::with_rails().await;
    let url = desk.db.url("t_monitor");
    let mut watch = ChildGuard::spawn(Path::new(OUTBOXD), &desk.dir.path().join("log"), |command| {
        command.args(["status", "--watch", "--output", "json"]).env("DATABASE_URL", &url);
    })
    .unwrap();
    wait_until("two looks", Duration::from_secs(20), async || watch.log().lines().count() >= 2).await.unwrap();
    watch.signal(Signal::INT).unwrap();
    assert_eq!(watch.wait_exit(Duration::from_secs(10)).unwrap().code(), Some(0));
    for line in watch.log().lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap()["rails"].is_array());
    }
}

#[tokio::test]
async fn the_database_is_found_as_libpq_finds_it() {
    let desk = Desk::with_rails().await;
    let address = desk.db.address();
    let bare = |arguments: &[&str]| {
        let mut command = desk.command("t_monitor", arguments);
        command.env_remove("DATABASE_URL");
        command
    };
    let url = desk.db.url("t_monitor");
    let by_flag = end(&mut bare(&["status", "--database-url", &url]), b"");
    assert_eq!(by_flag.code, Some(0), "{by_flag:?}");
    let port = address.port().to_string();
    let variables =
        [("PGHOST", address.host()), ("PGPORT", &port), ("PGDATABASE", desk.db.name()), ("PGUSER", "t_monitor")];
    let by_variables = end(bare(&["status"]).envs(variables), b"");
    assert_eq!(by_variables.code, Some(0), "{by_variables:?}");
    let service = format!(
        "[pay]\nhost={}\nport={port}\ndbname={}\nuser=t_monitor\n[odd]\nkeepalives=1\n",
        address.host(),
        desk.db.name()
    );
    desk.file(".pg_service.conf", service);
    let by_service = end(bare(&["status"]).env("PGSERVICE", "pay"), b"");
    assert_eq!(by_service.code, Some(0), "{by_service:?}");
    for name in ["odd", "nothing"] {
        let refused = end(bare(&["status"]).env("PGSERVICE", name), b"");
        assert!(refused.code == Some(78) && refused.err.contains(name), "{refused:?}");
    }
}

#[tokio::test]
async fn a_password_in_an_argument_is_refused_and_not_repeated() {
    let desk = Desk::with_rails().await;
    let url = desk.db.url("t_monitor").replace("t_monitor@", "t_monitor:canary@");
    for arguments in [
        &["status", "--database-url", &url][..],
        &["migrate", "--check", "--database-url", &url],
        &["enqueue", "-", "--database-url", &url],
        &["inspect", "i", "--database-url", &url],
        &["rail", "list", "--database-url", &url],
    ] {
        let ended = desk.run("t_monitor", arguments);
        assert_eq!(ended.code, Some(64), "{ended:?}");
        assert!(ended.err.contains("~/.pgpass") && !ended.err.contains("canary"), "{ended:?}");
    }
    let by_environment = end(desk.command("t_monitor", &["status"]).env("DATABASE_URL", &url), b"");
    assert_eq!(by_environment.code, Some(0), "{by_environment:?}");
}

#[tokio::test]
async fn no_database_and_a_refused_login_are_told_apart() {
    let desk = Desk::with_rails().await;
    let nowhere = format!("postgres://t_monitor@{}/x", text(desk.dir.path()).replace('/', "%2F"));
    let ended = end(desk.command("t_monitor", &["status"]).env("DATABASE_URL", nowhere), b"");
    assert!(ended.code == Some(69) && ended.err.starts_with("error: connect: "), "{ended:?}");
    let ended = desk.run("nobody_known", &["status"]);
    assert!(ended.code == Some(77) && ended.err.contains("nobody_known"), "{ended:?}");
    let ended = desk.run("t_ingest", &["status"]);
    assert!(ended.code == Some(77) && ended.err.contains("permission denied"), "{ended:?}");
}
