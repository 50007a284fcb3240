//! Connections: what ends them, what a call then says, and that the next call has a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outbox_core::{Millis, Outcome, RailName};
use outbox_store::{
    Class, ConnectSettings, Password, Session, StoreError, Tls, WakeupListener, claim, preflight, read_payment_rails,
};
use outbox_testkit::wait_until;

use crate::sql::{run, scalar};
use crate::steps::Actor;
use crate::world::{RAIL, World, lease};

async fn show(connection: &mut sqlx::postgres::PgConnection, setting: &str) -> String {
    scalar(connection, &format!("show {setting}")).await
}

#[tokio::test]
async fn connection_carries_the_limits_that_the_server_keeps() {
    let world = World::new().await;
    let address = world.db.address();
    let (host, port, name) = (address.host(), address.port(), world.db.name());
    let settings = ConnectSettings::new(host, port, name, "t_dispatcher", Password::Ambient, &Tls::Disabled);
    let mut connection = settings.connect().await.unwrap();
    for (setting, value) in [
        ("statement_timeout", "3s"),
        ("lock_timeout", "1s"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("application_name", "outboxd"),
    ] {
        assert_eq!(show(&mut connection, setting).await, value, "{setting}");
    }
    let mut session = Session::new(Arc::new(settings.clone()));
    assert!(preflight(&mut session).await.unwrap().limits_in_force, "the server says that it keeps other limits");
    assert!(format!("{settings:?}").contains("password: Ambient"), "{settings:?}");
    let options = format!("{:?}", settings.options().unwrap());
    for setting in ["tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout"] {
        assert!(options.contains(setting), "{setting} is not asked for: {options}");
    }
}

#[tokio::test]
async fn a_session_that_was_told_to_disconnect_calls_on_another_connection() {
    let world = World::new().await;
    let mut session = world.session("t_dispatcher");
    assert!(!session.is_connected());
    let before = preflight(&mut session).await.unwrap().backend_pid;
    assert!(session.is_connected());
    assert_eq!(preflight(&mut session).await.unwrap().backend_pid, before);
    session.disconnect();
    assert!(!session.is_connected());
    assert_ne!(preflight(&mut session).await.unwrap().backend_pid, before);
}

#[tokio::test]
async fn session_that_falls_silent_inside_a_transaction_loses_its_locks_within_the_bound() {
    let world = World::new().await;
    world.enqueue("a", 3).await;
    let mut settings = ConnectSettings::clone(&world.settings("t_dispatcher"));
    settings.idle_in_transaction_timeout = Millis(300);
    let mut silent = settings.connect().await.unwrap();
    run(&mut silent, "begin").await;
    let taken =
        crate::sql::fetch(&mut silent, "select * from outbox.claim_outbox_batch('wire', 'silent', 10, 1, 0)").await;
    assert_eq!(taken.len(), 4);
    let mut worker = world.worker("w");
    assert!(worker.claim(10).await.leased.is_empty(), "the rows are not locked, so nothing is shown");
    let mut got = 0;
    let claimable = async || {
        got += worker.claim(10).await.leased.len();
        got == 3
    };
    wait_until("the rows being claimable again", Duration::from_secs(10), claimable).await.unwrap();
}

#[tokio::test]
async fn call_without_an_answer_ends_in_time_and_its_connection_is_not_used_again() {
    let mut world = World::new().await;
    world.enqueue("a", 1).await;
    let mut settings = ConnectSettings::clone(&world.settings("t_dispatcher"));
    settings.call_timeout = Millis(500);
    settings.lock_timeout = Millis(30_000);
    let mut worker = world.worker("w");
    worker.session = Session::new(Arc::new(settings));
    let first = preflight(&mut worker.session).await.unwrap().backend_pid;
    let mut stopper = Actor::enter(&world.db, "postgres", "stopper").await;
    stopper.does("begin; lock table outbox.payment_outbox_pending in access exclusive mode").await;
    let request = worker.request(1);
    let error = claim(&mut worker.session, &request).await.unwrap_err();
    assert!(matches!(error, StoreError::TimedOut { after: Millis(500), .. }), "{error:?}");
    assert_eq!((error.class(), error.is_unavailable()), (Class::Transient, true));
    assert!(!worker.session.is_connected());
    stopper.does("rollback").await;
    assert_ne!(preflight(&mut worker.session).await.unwrap().backend_pid, first);

    // The claim may have been granted after we gave up: it is never sent, and its lease runs out.
    let gone = format!("select not exists (select from pg_stat_activity where pid = {first})");
    let dba = &mut world.dba;
    wait_until("the abandoned process ending", Duration::from_secs(20), async || scalar(dba, &gone).await)
        .await
        .unwrap();
    run(
        &mut world.dba,
        "update outbox.payment_outbox_pending set lease_expires_at = clock_timestamp() where lease_token is not null",
    )
    .await;
    worker.claim(1).await;
    let claimed = worker.claim(1).await.leased;
    let claimed =
        claimed.first().map_or_else(Vec::new, |one| vec![crate::world::completion(lease(one), Outcome::Accepted)]);
    worker.complete(&claimed).await;
    crate::conservation::assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn wait_for_a_lock_ends_on_the_server_and_the_connection_stays() {
    let world = World::new().await;
    let mut settings = ConnectSettings::clone(&world.settings("t_dispatcher"));
    settings.lock_timeout = Millis(200);
    let mut session = Session::new(Arc::new(settings));
    let mut stopper = Actor::enter(&world.db, "postgres", "stopper").await;
    stopper.does("begin; lock table outbox.payment_rails in access exclusive mode").await;
    let error = read_payment_rails(&mut session).await.unwrap_err();
    assert_eq!((error.sqlstate().as_deref(), error.class()), (Some("55P03"), Class::Transient));
    assert!(session.is_connected());
    stopper.does("rollback").await;
    assert_eq!(read_payment_rails(&mut session).await.unwrap().len(), 1);
}

#[tokio::test]
async fn session_whose_process_was_ended_reports_it_once_and_reconnects() {
    let mut world = World::new().await;
    let mut session = world.session("t_dispatcher");
    let pid = preflight(&mut session).await.unwrap().backend_pid;
    run(&mut world.dba, &format!("select pg_terminate_backend({pid}, 10000)")).await;
    let error = read_payment_rails(&mut session).await.unwrap_err();
    assert!(error.is_unavailable() && error.class() == Class::Transient, "{error:?}");
    assert!(!session.is_connected());
    assert_eq!(read_payment_rails(&mut session).await.unwrap().len(), 1);
}

#[tokio::test]
async fn wrong_logins_and_missing_rights_are_told_apart() {
    let world = World::new().await;
    let error = preflight(&mut world.session("nobody_here")).await.unwrap_err();
    assert!(matches!(error, StoreError::LoginRefused { .. }) && error.class() == Class::Misconfigured, "{error:?}");
    let mut auditor = world.worker("w");
    auditor.session = world.session("t_auditor");
    let request = auditor.request(1);
    let error = claim(&mut auditor.session, &request).await.unwrap_err();
    assert!(matches!(error, StoreError::NotPermitted { .. }) && error.class() == Class::Misconfigured, "{error:?}");
}

#[tokio::test]
async fn password_is_asked_for_at_each_connect_and_a_missing_one_is_a_fault_of_the_configuration() {
    let mut world = World::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let answer = move || {
        let n = count.fetch_add(1, Ordering::Relaxed);
        if n < 2 { Ok(format!("password {n}")) } else { Err("the file is not readable".into()) }
    };
    let (address, name) = (world.db.address().clone(), world.db.name().to_owned());
    let password = Password::Asked(Arc::new(answer));
    let settings =
        ConnectSettings::new(address.host(), address.port(), &name, "t_dispatcher", password, &Tls::Disabled);
    let mut session = Session::new(Arc::new(settings));
    for connect in 1..=2 {
        let pid = preflight(&mut session).await.unwrap().backend_pid;
        assert_eq!(asked.load(Ordering::Relaxed), connect);
        run(&mut world.dba, &format!("select pg_terminate_backend({pid}, 10000)")).await;
        assert!(preflight(&mut session).await.is_err());
    }
    let error = preflight(&mut session).await.unwrap_err();
    assert!(matches!(error, StoreError::Credential { .. }) && error.class() == Class::Misconfigured, "{error:?}");
}

#[tokio::test]
async fn dispatcher_sees_what_its_connection_is_and_may_do() {
    let world = World::new().await;
    let seen = preflight(&mut world.session("t_dispatcher")).await.unwrap();
    assert_eq!((seen.login.as_str(), seen.excess_privilege), ("t_dispatcher", None));
    assert!(seen.fsync && seen.full_page_writes && seen.synchronous_commit == "on");
    assert!(!seen.in_recovery && !seen.read_only && seen.api_versions.contains(&outbox_store::API_VERSION));
}

#[tokio::test]
async fn dispatcher_is_told_every_privilege_that_its_login_has_too_many() {
    let mut world = World::new().await;
    let connection = &mut world.dba;
    let excess = "select outbox.excess_privilege_of('t_too_much')";
    for (grant, expected) in [
        ("select 1", None),
        ("alter role t_too_much createrole", Some("may create roles")),
        ("alter role t_too_much nocreaterole replication", Some("may replicate")),
        ("alter role t_too_much noreplication bypassrls", Some("may bypass row security")),
        (
            "alter role t_too_much nobypassrls noinherit; create role t_great superuser; create role t_between in role t_great; \
             grant t_between to t_too_much",
            Some("is a member of t_great, which is a superuser"),
        ),
        (
            "revoke t_between from t_too_much; grant outbox_operator to t_too_much",
            Some("is a member of outbox_operator"),
        ),
        (
            "revoke outbox_operator from t_too_much; grant pg_read_all_data to t_too_much",
            Some("is a member of pg_read_all_data"),
        ),
        (
            "revoke pg_read_all_data from t_too_much; grant update (late_success) on outbox.payment_outbox_pending to t_too_much",
            Some("has privileges on the table outbox.payment_outbox_pending"),
        ),
        (
            "revoke update (late_success) on outbox.payment_outbox_pending from t_too_much; \
             grant execute on function outbox.read_payment_timelines(text, text) to t_too_much",
            Some("may call outbox.read_payment_timelines(text,text)"),
        ),
        (
            "revoke execute on function outbox.read_payment_timelines(text, text) from t_too_much; \
             grant create on schema outbox to t_too_much",
            Some("may create objects in the schema outbox"),
        ),
        ("alter role t_too_much superuser", Some("is a superuser")),
    ] {
        // Roles belong to the server and outlive a transaction that is committed: this one is not.
        if grant == "select 1" {
            run(connection, "begin; create role t_too_much login; grant outbox_dispatcher to t_too_much; set local search_path = ''").await;
        }
        run(connection, grant).await;
        let told: Option<String> = scalar(connection, excess).await;
        assert_eq!(told.as_deref(), expected, "{grant}");
    }
    run(connection, "rollback").await;
}

#[tokio::test]
async fn listener_that_lost_its_connection_says_so_and_lost_its_locks_with_it() {
    let mut world = World::new().await;
    let rail = RailName::new(RAIL).unwrap();
    let settings = world.settings("t_dispatcher");
    let mut listener = WakeupListener::connect(&settings, std::slice::from_ref(&rail)).await.unwrap();
    let pid = listener.probe().await.unwrap().backend_pid;
    assert!(listener.try_wakeup_lock(&rail).await.unwrap());
    let mut second = WakeupListener::connect(&settings, std::slice::from_ref(&rail)).await.unwrap();
    assert!(!second.try_wakeup_lock(&rail).await.unwrap());
    run(&mut world.dba, &format!("select pg_terminate_backend({pid}, 10000)")).await;
    assert!(!matches!(listener.next().await, Ok(Some(_))), "a dead connection heard something");
    assert!(second.try_wakeup_lock(&rail).await.unwrap());
    assert!(second.release_wakeup_lock(&rail).await.unwrap());
    assert!(!second.release_wakeup_lock(&rail).await.unwrap());
}
