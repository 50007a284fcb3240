//! Programs end with their test.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use outbox_testkit::{ChildGuard, Signal};
use rustix::process::{Pid, test_kill_process};

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}

#[test]
fn dropped_guard_kills_even_a_frozen_program() {
    let dir = tempfile::tempdir().unwrap();
    let mut guard = ChildGuard::spawn(Path::new("cat"), &dir.path().join("log"), |command| {
        command.stdin(Stdio::piped());
    })
    .unwrap();
    let pid = guard.pid();
    guard.signal(Signal::STOP).unwrap();
    assert!(guard.is_running().unwrap() && is_alive(pid));
    drop(guard);
    assert!(!is_alive(pid));
}

#[test]
fn exit_code_and_output_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut guard = ChildGuard::spawn(Path::new("sh"), &dir.path().join("log"), |command| {
        command.args(["-c", "echo out; echo err >&2; exit 78"]);
    })
    .unwrap();
    let status = guard.wait_exit(Duration::from_secs(10)).unwrap();
    assert_eq!(status.code(), Some(78));
    assert_eq!(guard.log(), "out\nerr\n");
}

#[test]
fn program_started_by_a_short_lived_thread_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut guard = std::thread::spawn(move || {
        ChildGuard::spawn(Path::new("cat"), &log, |command| {
            command.stdin(Stdio::piped());
        })
        .unwrap()
    })
    .join()
    .unwrap();
    // A parent-death signal would have been delivered when the thread ended; cat would be dying now.
    guard.child().stdin.take();
    assert_eq!(guard.wait_exit(Duration::from_secs(10)).unwrap().code(), Some(0));
}
