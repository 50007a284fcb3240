//! The daemon from outside while its database is away: it waits, says so to everybody who asks, feeds
//! the watchdog, and ends when told. What it does with a database is not tried here.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use outbox_testkit::{ChildGuard, Signal, wait_until_blocking};
use serde_json::Value;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);

struct Daemon {
    child: ChildGuard,
    notices: UnixDatagram,
    heard: String,
    _dir: TempDir,
}

fn start() -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    let (socket, file) = (dir.path().join("notify"), dir.path().join("outboxd.toml"));
    let nowhere = dir.path().display();
    let text = format!(
        "[dispatcher]\nname = \"pay-1\"\n[database]\nhost = \"{nowhere}\"\nname = \"p\"\nuser = \"u\"\n\
         [health]\nlisten = \"127.0.0.1:0\"\n[rails.sepa]\nurl = \"http://127.0.0.1:9/\"\n\
         reference_json_pointer = \"/id\"\n"
    );
    fs::write(&file, text).unwrap();
    let notices = UnixDatagram::bind(&socket).unwrap();
    notices.set_nonblocking(true).unwrap();
    let child = ChildGuard::spawn(Path::new(env!("CARGO_BIN_EXE_outboxd")), &dir.path().join("log"), |command| {
        command.args(["run", "--config"]).arg(&file);
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
    });
    Daemon { child: child.unwrap(), notices, heard: String::new(), _dir: dir }
}

impl Daemon {
    /// The first line of the log with this event, once it is there.
    fn event(&self, name: &str) -> Value {
        let find = || {
            let lines: Vec<Value> =
                self.child.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            lines.into_iter().find(|line| line["event"] == name)
        };
        wait_until_blocking(name, LIMIT, || find().is_some()).unwrap_or_else(|e| panic!("{e}\n{}", self.child.log()));
        find().unwrap()
    }

    /// Waits until systemd would have been told `text`.
    fn notice(&mut self, text: &str) {
        let Self { notices, heard, .. } = self;
        let told = wait_until_blocking(text, LIMIT, || {
            let mut buffer = [0; 4096];
            while let Ok(length) = notices.recv(&mut buffer) {
                heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
            heard.contains(text)
        });
        told.unwrap_or_else(|e| panic!("{e}; heard: {heard}"));
    }

    fn get(&self, path: &str) -> String {
        let address = self.event("health.serving")["address"].as_str().unwrap().to_owned();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

#[test]
fn a_daemon_without_its_database_is_live_not_ready_and_ends_when_told() {
    let mut daemon = start();
    assert_eq!(daemon.event("daemon.starting")["config_sha256"].as_str().map(str::len), Some(64));
    daemon.event("database.waiting");
    let live = daemon.get("/livez");
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    let ready = daemon.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("\"subject\":\"database\""), "{ready}");
    daemon.notice("STATUS=waiting for the database");
    daemon.notice("WATCHDOG=1");
    assert!(!daemon.heard.contains("READY=1"), "{}", daemon.heard);
    daemon.child.signal(Signal::TERM).unwrap();
    let ended = daemon.child.wait_exit(LIMIT).unwrap();
    assert_eq!(ended.code(), Some(0), "{}", daemon.child.log());
}

#[test]
fn every_line_of_the_log_is_one_json_object_with_an_event() {
    let mut daemon = start();
    daemon.event("database.waiting");
    daemon.event("health.serving");
    daemon.child.signal(Signal::INT).unwrap();
    daemon.child.wait_exit(LIMIT).unwrap();
    let names: Vec<&str> = outboxd::events::ALL.iter().map(|(name, _)| *name).collect();
    for line in daemon.child.log().lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(names.iter().any(|name| value["event"] == *name), "{line}");
    }
}
