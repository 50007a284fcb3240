//! Starts the real binary with one rail that nobody serves, for tests of how a daemon begins, waits and
//! ends. Payments that reach a rail are `rig`'s subject.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use outbox_testkit::{ChildGuard, PgAddress, TestDb, wait_until};
use tempfile::TempDir;

use crate::rig::{Daemon, LIMIT};

/// The rail of the configuration.
pub(crate) const RAIL: &str = "wire";

/// What a daemon is started with.
pub(crate) struct Launch {
    pub(crate) dir: TempDir,
    settings: Vec<String>,
    flags: Vec<&'static str>,
    environment: Vec<(&'static str, OsString)>,
}

impl Launch {
    pub(crate) fn on(db: &TestDb) -> Self {
        Self::at(db.address(), db.name())
    }

    pub(crate) fn at(address: &PgAddress, database: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[dispatcher]\nname = \"pay-1\"\nheartbeat_interval = \"500ms\"\ncompletion_budget = \"4s\"\n\
             [database]\nhost = \"{}\"\nport = {}\nname = \"{database}\"\nuser = \"t_dispatcher\"\n\
             connect_timeout = \"3s\"\ncall_timeout = \"3s\"\nstatement_timeout = \"2s\"\n\
             [health]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"warn,outboxd=debug\"\n\
             [rails.{RAIL}]\nurl = \"http://127.0.0.1:9/\"\ntimeout = \"1s\"\nreference_json_pointer = \"/id\"\n",
            address.host(),
            address.port(),
        );
        fs::write(dir.path().join("outboxd.toml"), text).unwrap();
        Self { dir, settings: Vec::new(), flags: Vec::new(), environment: Vec::new() }
    }

    /// Sets a key of the configuration.
    pub(crate) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.settings.push(format!("{key}={value}"));
        self
    }

    /// The same of a dispatcher that leaves its decisions to the policy.
    pub(crate) fn governed(self) -> Self {
        let file = self.dir.path().join("outboxd.toml");
        let text = fs::read_to_string(&file).unwrap();
        let decisions = "timeout = \"1s\"\nreference_json_pointer = \"/id\"\n";
        assert!(text.contains(decisions), "{text}");
        fs::write(file, text.replace(decisions, "decisions = \"policy\"\n")).unwrap();
        self
    }

    pub(crate) fn flag(mut self, flag: &'static str) -> Self {
        self.flags.push(flag);
        self
    }

    pub(crate) fn environment(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Writes a file of that mode into the folder of the daemon.
    pub(crate) fn file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Another command than the daemon, with the same configuration.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outboxd"));
        command.args([name, "--config"]).arg(self.dir.path().join("outboxd.toml")).args(&self.flags);
        command.args(self.settings.iter().flat_map(|setting| ["--set", setting]));
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn start(&self) -> Daemon {
        let log = self.dir.path().join(format!("log-{}", fs::read_dir(self.dir.path()).unwrap().count()));
        let child = ChildGuard::spawn(Path::new(env!("CARGO_BIN_EXE_outboxd")), &log, |command| {
            command.args(["run", "--config"]).arg(self.dir.path().join("outboxd.toml")).args(&self.flags);
            command.args(self.settings.iter().flat_map(|setting| ["--set", setting]));
            command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        });
        Daemon { child: child.unwrap() }
    }

    /// Starts a daemon that must end by itself with `code`, and say `words`; returns all it said.
    pub(crate) async fn refused(&self, code: i32, words: &str) -> String {
        let mut daemon = self.start();
        let ended = daemon.ended().await;
        let said = daemon.child.log();
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains(words), "not said: {words}\n{said}");
        said
    }

    /// Starts a daemon that must become ready, and stops it.
    pub(crate) async fn accepted(&self) {
        let mut daemon = self.start();
        let decided = wait_until("a decision", LIMIT, async || {
            !daemon.child.is_running().unwrap() || !daemon.events("lane.on").is_empty()
        });
        decided.await.unwrap();
        assert!(daemon.child.is_running().unwrap(), "{}", daemon.child.log());
        daemon.becomes_ready(true).await;
        daemon.stop().await;
    }
}

/// Where systemd would listen.
pub(crate) struct Notices {
    socket: UnixDatagram,
    heard: String,
}

impl Notices {
    /// The socket, and the launch that knows it.
    pub(crate) fn of(launch: Launch) -> (Self, Launch) {
        let path = launch.dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (Self { socket, heard: String::new() }, launch.environment("NOTIFY_SOCKET", path))
    }

    /// Waits until `text` was told `count` times since the start.
    pub(crate) async fn told(&mut self, text: &str, count: usize) {
        let waited = wait_until(text, LIMIT, async || {
            let mut buffer = [0; 4096];
            while let Ok(length) = self.socket.recv(&mut buffer) {
                self.heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
                self.heard.push('\n');
            }
            self.heard.matches(text).count() >= count
        });
        if let Err(error) = waited.await {
            panic!("{error}; heard: {}", self.heard);
        }
    }

    /// How often `text` was told in what was heard so far.
    pub(crate) fn heard(&self, text: &str) -> usize {
        self.heard.matches(text).count()
    }
}

/// Runs statements as superuser in `database`.
pub(crate) async fn run_in(address: &PgAddress, database: &str, sql: &str) {
    use sqlx::Executor as _;
    let mut session = address.connect(database, "postgres").await.unwrap();
    let done = session.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Runs statements as superuser in the database `db`.
pub(crate) async fn run_on(db: &TestDb, sql: &str) {
    run_in(db.address(), db.name(), sql).await;
}

/// Runs statements as superuser on the server of `db`, in another database.
pub(crate) async fn run_beside(db: &TestDb, sql: &str) {
    run_in(db.address(), "postgres", sql).await;
}

/// Gives the rail of a launch its contract.
pub(crate) async fn contract(db: &TestDb) {
    run_on(db, &format!("select outbox.set_payment_rail('{RAIL}', 'hold', p_amount_required => false)")).await;
}

/// Ends every session of the dispatcher's login in `db`.
pub(crate) async fn cut_sessions(db: &TestDb) {
    let name = db.name();
    let sql = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and usename = 't_dispatcher'"
    );
    run_beside(db, &sql).await;
}

/// A database with the contract of the rail.
pub(crate) async fn database() -> TestDb {
    let db = TestDb::create().await.unwrap();
    contract(&db).await;
    db
}

/// A database on a server of its own, with the contract of the rail.
pub(crate) async fn database_on(address: &PgAddress) -> TestDb {
    let db = TestDb::create_on(address).await.unwrap();
    contract(&db).await;
    db
}

/// Waits until `/readyz` says `words`.
pub(crate) async fn says(daemon: &Daemon, words: &str) {
    let waited = wait_until(words, LIMIT, async || daemon.ready().await.contains(words)).await;
    if let Err(error) = waited {
        panic!("{error}: {}\n{}", daemon.ready().await, daemon.child.log());
    }
}

/// Ends the sessions of the dispatcher, those that are being opened meanwhile included, until `/readyz`
/// says `words`.
pub(crate) async fn cut_until_it_says(db: &TestDb, daemon: &Daemon, words: &str) {
    let cut = async || {
        cut_sessions(db).await;
        daemon.ready().await.contains(words)
    };
    if let Err(error) = wait_until(words, LIMIT, cut).await {
        panic!("{error}: {}\n{}", daemon.ready().await, daemon.child.log());
    }
}
