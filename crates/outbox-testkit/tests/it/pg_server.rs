//! Private servers: durable, restartable, and gone with the process that started them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use outbox_testkit::{PgServer, PgVersion, ServerClock, ServerSettings, wait_until_blocking};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::{Connection as _, Row as _};

/// A server whose directory vanished ends by itself some time later; that is not what is wanted.
const ORPHAN_LIMIT: Duration = Duration::from_secs(6);

fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

#[tokio::test]
async fn server_is_durable_and_only_on_its_socket() {
    let server = PgServer::start(PgVersion::from_environment().unwrap()).unwrap();
    let mut session = server.address().connect("postgres", "postgres").await.unwrap();
    for (setting, value) in
        [("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on"), ("listen_addresses", "")]
    {
        let shown: String =
            sqlx::query_scalar("select current_setting($1)").bind(setting).fetch_one(&mut session).await.unwrap();
        assert_eq!(shown, value, "{setting}");
    }
}

#[tokio::test]
async fn tcp_server_answers_on_loopback() {
    let settings = ServerSettings { tcp: true, ..ServerSettings::default() };
    let server = PgServer::start_with(PgVersion::from_environment().unwrap(), &settings).unwrap();
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", server.port());
    let mut session = sqlx::PgConnection::connect(&url).await.unwrap();
    let row = sqlx::query("select host(inet_server_addr())").fetch_one(&mut session).await.unwrap();
    assert_eq!(row.get::<String, _>(0), "127.0.0.1");
}

#[tokio::test]
async fn committed_rows_survive_an_immediate_stop() {
    let mut server = PgServer::start(PgVersion::from_environment().unwrap()).unwrap();
    let first_pid = server.pid();
    let mut session = server.address().connect("postgres", "postgres").await.unwrap();
    sqlx::raw_sql("create table kept (n int); insert into kept values (7)").execute(&mut session).await.unwrap();
    server.stop_immediate().unwrap();
    assert!(!is_alive(first_pid));
    assert!(server.address().connect("postgres", "postgres").await.is_err());
    server.restart().unwrap();
    assert_ne!(server.pid(), first_pid);
    let mut session = server.address().connect("postgres", "postgres").await.unwrap();
    let kept: i32 = sqlx::query_scalar("select n from kept").fetch_one(&mut session).await.unwrap();
    assert_eq!(kept, 7);
    assert!(server.log().contains("database system was not properly shut down"), "{}", server.log());
}

/// Frozen it obeys as little as one whose processes wait for a lock that a killed one had.
#[tokio::test]
async fn server_that_does_not_obey_an_immediate_stop_is_killed_and_recovers() {
    let mut server = PgServer::start(PgVersion::from_environment().unwrap()).unwrap();
    let first_pid = server.pid();
    let mut session = server.address().connect("postgres", "postgres").await.unwrap();
    sqlx::raw_sql("create table kept (n int); insert into kept values (7)").execute(&mut session).await.unwrap();
    server.sigstop().unwrap();
    server.stop_immediate().unwrap();
    assert!(!is_alive(first_pid));
    server.restart().unwrap();
    let mut session = server.address().connect("postgres", "postgres").await.unwrap();
    let kept: i32 = sqlx::query_scalar("select n from kept").fetch_one(&mut session).await.unwrap();
    assert_eq!(kept, 7);
}

#[tokio::test]
async fn frozen_server_answers_nothing_until_it_is_continued() {
    let server = PgServer::start(PgVersion::from_environment().unwrap()).unwrap();
    let mut session = server.address().connect("postgres", "postgres").await.unwrap();
    server.sigstop().unwrap();
    let mut question = Box::pin(sqlx::query_scalar::<_, i32>("select 1").fetch_one(&mut session));
    let silent = tokio::time::timeout(Duration::from_millis(200), &mut question).await;
    assert!(silent.is_err(), "a frozen server answered");
    server.sigcont().unwrap();
    assert_eq!(question.await.unwrap(), 1);
}

#[test]
fn dropped_server_leaves_no_process_and_no_directory() {
    let server = PgServer::start(PgVersion::from_environment().unwrap()).unwrap();
    let (pid, dir) = (server.pid(), server.socket_dir().to_path_buf());
    assert!(is_alive(pid) && dir.exists());
    server.sigstop().unwrap();
    drop(server);
    assert!(!is_alive(pid) && !dir.exists());
}

#[test]
fn killed_owner_leaves_no_server_and_no_command() {
    // The command prints the socket directory and itself, then waits for ever: its input never ends.
    let mut owner = Command::new(env!("CARGO_BIN_EXE_testkit-pg"))
        .arg(PgVersion::from_environment().unwrap().major().to_string())
        .args(["sh", "-c", "echo \"$OUTBOXD_TEST_PG_HOST $$\"; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(owner.stdout.take().unwrap()), &mut line).unwrap();
    let (dir, command_pid) = line.trim().split_once(' ').unwrap();
    let (dir, command_pid) = (Path::new(dir).to_path_buf(), command_pid.parse().unwrap());
    let pid_file = std::fs::read_to_string(dir.join("data/postmaster.pid")).unwrap();
    let server_pid: i32 = pid_file.lines().next().unwrap().parse().unwrap();
    assert!(is_alive(server_pid) && is_alive(command_pid));
    // Held open here, so that the command does not end by itself with its owner.
    let input = owner.stdin.take();
    kill_process(Pid::from_child(&owner), Signal::KILL).unwrap();
    owner.wait().unwrap();
    let gone = || !is_alive(server_pid) && !is_alive(command_pid) && !dir.exists();
    wait_until_blocking("end of the orphans", ORPHAN_LIMIT, gone).unwrap();
    drop(input);
}

#[tokio::test]
async fn server_clock_moves_both_ways_while_it_runs() {
    let settings = ServerSettings { clock: Some(ServerClock::new().unwrap()), ..ServerSettings::default() };
    let server = PgServer::start_with(PgVersion::from_environment().unwrap(), &settings).unwrap();
    let mut session = server.address().connect("postgres", "postgres").await.unwrap();
    let clock = settings.clock.unwrap();
    for moved_s in [0, 3600, -3600, 0] {
        clock.move_to(moved_s).unwrap();
        let server_s: f64 = sqlx::query_scalar("select extract(epoch from clock_timestamp())::float8")
            .fetch_one(&mut session)
            .await
            .unwrap();
        let host_s = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "an hour in seconds is exact")]
        let difference_s = server_s - host_s - moved_s as f64;
        assert!(difference_s.abs() < 30.0, "{moved_s}: {difference_s}");
    }
}

#[test]
fn exit_code_of_the_command_is_passed_on() {
    let version = PgVersion::from_environment().unwrap().major().to_string();
    let status =
        Command::new(env!("CARGO_BIN_EXE_testkit-pg")).args([&version, "sh", "-c", "exit 7"]).status().unwrap();
    assert_eq!(status.code(), Some(7));
}
