//! What the daemon does when nobody takes its log lines: payments go on, and so does its end. The other
//! half of the matter, which lines are dropped and how that is said, is with the queue itself.

use std::io::{PipeReader, Read as _, Write as _, pipe};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::Value;

use crate::fail_closed_running::claim_that_grants_twice;
use crate::rig::{Daemon, RAILS, Rig};

const EACH: usize = 20;

/// Longer than an end without anything in flight takes, and than all that waits for a reader meanwhile.
const SOON: Duration = Duration::from_secs(10);

/// Standard output and standard error of a daemon whose reader is gone.
fn nobodys() -> [Stdio; 2] {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    [writer.try_clone().unwrap().into(), writer.into()]
}

/// The same as one pipe that is full, and its reader.
fn full() -> (PipeReader, [Stdio; 2]) {
    let (reader, mut writer) = pipe().unwrap();
    let blocking = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, blocking | OFlags::NONBLOCK).unwrap();
    // A write of a page that finds no room for all of it writes nothing.
    for size in [4096, 1] {
        while writer.write(&vec![b'\n'; size]).is_ok() {}
    }
    fcntl_setfl(&writer, blocking).unwrap();
    (reader, [writer.try_clone().unwrap().into(), writer.into()])
}

async fn dispatches(rig: &Rig) {
    for rail in RAILS {
        rig.enqueue(rail, EACH).await;
    }
    rig.settled().await;
    rig.all_dispatched().await;
}

/// Ends by itself or because it was told to, with `code` and without waiting for a reader.
async fn ends_soon(daemon: &mut Daemon, code: i32) {
    let began = Instant::now();
    assert_eq!(daemon.ended().await, Some(code));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_reader_is_gone_holds_up_neither_payments_nor_the_end() {
    let rig = Rig::start().await;
    let mut daemon = rig.daemon_into("a", nobodys(), &[] as &[&str]);
    dispatches(&rig).await;
    daemon.terminate();
    ends_soon(&mut daemon, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_neither_payments_nor_the_end() {
    let rig = Rig::start().await;
    let (reader, output) = full();
    let mut daemon = rig.daemon_into("a", output, &["log.filter=trace"]);
    dispatches(&rig).await;
    daemon.terminate();
    ends_soon(&mut daemon, 0).await;
    drop(reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_ends_with_its_code_though_nobody_reads_why() {
    let rig = Rig::start().await;
    let (reader, output) = full();
    let mut daemon = rig.daemon_into("a", output, &["database.user=nobody_of_that_name"]);
    ends_soon(&mut daemon, 77).await;
    drop(reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_the_daemon_with_70_whether_its_log_is_read_or_not() {
    let (reader, full) = full();
    for output in [nobodys(), full] {
        let rig = Rig::start().await;
        rig.run(&claim_that_grants_twice()).await;
        let mut daemon = rig.daemon_into("a", output, &[] as &[&str]);
        ends_soon(&mut daemon, 70).await;
    }
    drop(reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_comes_back_gets_the_lines_that_it_left_lying_whole() {
    let rig = Rig::start().await;
    let (mut reader, output) = full();
    let mut daemon = rig.daemon_into("a", output, &[] as &[&str]);
    dispatches(&rig).await;
    daemon.terminate();
    // It comes back at the last moment: all that is left of the daemon is to have its last lines taken.
    rig.until("the last heartbeat", "select state = 'STOPPED' from outbox.outbox_dispatchers").await;
    let said = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        said
    });
    ends_soon(&mut daemon, 0).await;
    let said = said.await.unwrap();
    let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let events: Vec<Value> = said.lines().filter(|line| !line.is_empty()).map(parse).collect();
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    let counts = ["daemon.starting", "complete.applied", "log.lines_dropped", "daemon.stopped"].map(count);
    assert_eq!(counts, [1, 2 * EACH, 0, 1], "{said}");
}
