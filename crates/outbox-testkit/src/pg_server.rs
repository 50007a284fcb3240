//! A private Postgres server with the durable settings that production needs, on a unix socket in a
//! directory of its own. Started as an unprivileged account when the tests run as root, because the
//! server refuses root. It holds no databases of the project: see `TestDb`.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::error::io_context;
use crate::pg_account::ServerAccount;
use crate::pg_address::SOCKET_PORT;
use crate::pg_guard::Guard;
use crate::{PgAddress, PgVersion, ServerClock, TestkitError, server_dir, wait_until_blocking};

/// Free ports that are tried: somebody else may take one before the server has it.
const PORT_TRIES: u32 = 5;

/// A server that recovers after an immediate stop under load, on two busy cores, has needed up to 10 s.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Three times as long as Postgres gives its processes before it kills them.
const IMMEDIATE_LIMIT: Duration = Duration::from_secs(15);

/// What the server runs with. `fsync`, `synchronous_commit` and `full_page_writes` are written out
/// although they are defaults: the daemon refuses a server without them, so the tests must have them.
const DURABLE_CONFIGURATION: &str = "\
fsync = on
synchronous_commit = on
full_page_writes = on
max_connections = 200
max_prepared_transactions = 20
shared_buffers = 128MB
max_wal_size = 2GB
timezone = 'UTC'
log_timezone = 'UTC'
log_min_duration_statement = -1
";

/// What a test may ask for beyond the default server.
#[derive(Debug, Clone, Default)]
pub struct ServerSettings {
    /// Listen on 127.0.0.1 as well, on a free port.
    pub tcp: bool,
    /// Further lines of `postgresql.conf`, each `name = value`.
    pub configuration: Vec<String>,
    /// Variables of the server's environment.
    pub environment: Vec<(String, String)>,
    /// Let this clock be the server's.
    pub clock: Option<ServerClock>,
    /// Serve TLS with this certificate.
    pub tls: Option<ServerTls>,
    /// Begin as this file in the data directory says: `standby.signal` or `recovery.signal`.
    pub signal_file: Option<&'static str>,
    /// Keep the server's files on the file system of this directory.
    pub disk: Option<PathBuf>,
}

/// The server's certificate and key, both PEM.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Certificate chain.
    pub certificate_pem: String,
    /// Private key.
    pub key_pem: String,
}

/// A running server; it is stopped, and its directory removed, when this is dropped or the process dies.
#[derive(Debug)]
pub struct PgServer {
    guard: Guard,
    address: PgAddress,
    dir: PathBuf,
    pid: i32,
    running: bool,
}

impl PgServer {
    /// Starts a server with the default settings.
    ///
    /// # Errors
    /// When the binaries are missing or the server does not come up.
    pub fn start(version: PgVersion) -> Result<Self, TestkitError> {
        Self::start_with(version, &ServerSettings::default())
    }

    /// Starts a server with `settings`.
    ///
    /// # Errors
    /// When the binaries are missing or the server does not come up.
    pub fn start_with(version: PgVersion, settings: &ServerSettings) -> Result<Self, TestkitError> {
        Self::prepare(None, version, settings)?.up(settings)
    }

    /// Starts a server on a copy of what this one has on disk: a clone, a restored backup or a standby, as `settings`
    /// say. This one is stopped in order and started again meanwhile.
    ///
    /// # Errors
    /// When either server does not come up, or the files cannot be copied.
    pub fn copy(&mut self, version: PgVersion, settings: &ServerSettings) -> Result<Self, TestkitError> {
        self.stop_fast()?;
        // The copy is made while nothing runs on the files, and started when this one is up again: a standby asks it.
        let copied = Self::prepare(Some(&self.dir.join("data")), version, settings);
        self.launch()?;
        copied?.up(settings)
    }

    /// Everything but the start.
    fn prepare(files: Option<&Path>, version: PgVersion, settings: &ServerSettings) -> Result<Self, TestkitError> {
        let bin_dir = version.bin_dir()?;
        let account = ServerAccount::of_this_process()?;
        let dir = server_dir::create(settings.disk.as_deref())?;
        account.give(&dir)?;
        let data = dir.join("data");
        // The variables come after the change of account: what is preloaded must not run as root first.
        let mut command: Vec<OsString> = vec!["env".into()];
        command.extend(settings.environment.iter().map(|(name, value)| format!("{name}={value}").into()));
        let clock = settings.clock.iter().flat_map(ServerClock::environment);
        command.extend(clock.map(|(name, value)| format!("{name}={value}").into()));
        command.extend([bin_dir.join("postgres").into_os_string(), "-D".into(), data.clone().into()]);
        let command = account.wrap(command);
        // The guard exists before anything is put into the directory, so that every way out removes it.
        let guard = Guard::new(&dir, &dir.join("log"), &command)?;
        let address = PgAddress::on_socket(&dir, SOCKET_PORT);
        let prepared = Self { guard, address, dir, pid: 0, running: false };
        match files {
            None => account.run_initdb(&bin_dir, &data)?,
            Some(files) => copy_files(files, &data)?,
        }
        if let Some(signal) = settings.signal_file {
            let path = data.join(signal);
            fs::write(&path, "").map_err(io_context("write a signal file of a test server"))?;
            account.give(&path)?;
        }
        Ok(prepared)
    }

    fn up(mut self, settings: &ServerSettings) -> Result<Self, TestkitError> {
        let account = ServerAccount::of_this_process()?;
        let mut tries = if settings.tcp { PORT_TRIES } else { 1 };
        loop {
            if settings.tcp {
                self.address = PgAddress::on_socket(&self.dir, free_port()?);
            }
            self.write_configuration(settings, &account)?;
            tries -= 1;
            match self.launch() {
                // A port that was free is anybody's until the server has it.
                Err(_) if tries > 0 => {}
                launched => return launched.map(|()| self),
            }
        }
    }

    fn write_configuration(&self, settings: &ServerSettings, account: &ServerAccount) -> Result<(), TestkitError> {
        let data = self.dir.join("data");
        let listen = if settings.tcp { "127.0.0.1" } else { "" };
        let mut text = format!(
            "{DURABLE_CONFIGURATION}listen_addresses = '{listen}'\nport = {}\nunix_socket_directories = '{}'\n",
            self.address.port(),
            self.dir.display()
        );
        if let Some(tls) = &settings.tls {
            for (name, pem) in [("server.crt", &tls.certificate_pem), ("server.key", &tls.key_pem)] {
                let path = data.join(name);
                fs::write(&path, pem).map_err(io_context("write the certificate of a test server"))?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                    .map_err(io_context("protect the key of a test server"))?;
                account.give(&path)?;
            }
            text.push_str("ssl = on\n");
        }
        for line in &settings.configuration {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(data.join("postgresql.auto.conf"), text).map_err(io_context("configure a test server"))
    }

    fn launch(&mut self) -> Result<(), TestkitError> {
        let postmaster_file = self.dir.join("data/postmaster.pid");
        // Left over by an immediate stop; it would say "ready" of the server before.
        let _ = fs::remove_file(&postmaster_file);
        self.pid = self.guard.start()?;
        self.running = true;
        let pid = self.pid.to_string();
        let is_ready = || {
            fs::read_to_string(&postmaster_file).is_ok_and(|text| {
                text.lines().next() == Some(pid.as_str())
                    && text.lines().nth(7).is_some_and(|s| matches!(s.trim(), "ready" | "standby"))
            })
        };
        let up = wait_until_blocking("a test server", READY_LIMIT, || is_ready() || has_ended(self.pid));
        if up.is_ok() && is_ready() {
            return Ok(());
        }
        Err(TestkitError::Command { what: "start of a test server".to_owned(), output: self.log() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &PgAddress {
        &self.address
    }

    /// The directory of the socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    /// The port of the socket's name, and of loopback if asked for.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Options for `database` as login `user`.
    #[must_use]
    pub fn connect_options(&self, database: &str, user: &str) -> sqlx::postgres::PgConnectOptions {
        self.address.connect_options(database, user)
    }

    /// A URL for `database` as login `user`.
    #[must_use]
    pub fn url(&self, database: &str, user: &str) -> String {
        self.address.url(database, user)
    }

    /// Process id of the postmaster.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Everything the server has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Replaces `pg_hba.conf` and makes the server read it.
    ///
    /// # Errors
    /// When the file cannot be written or the server is gone.
    pub fn set_hba(&self, lines: &str) -> Result<(), TestkitError> {
        fs::write(self.dir.join("data/pg_hba.conf"), lines).map_err(io_context("write pg_hba.conf"))?;
        self.signal(self.pid, Signal::HUP)
    }

    /// Kills the server without a checkpoint, as a power cut of the process: committed work must survive it.
    ///
    /// # Errors
    /// When the server is not running.
    pub fn stop_immediate(&mut self) -> Result<(), TestkitError> {
        self.signal(self.pid, Signal::QUIT)?;
        // A process that is killed inside libfaketime keeps the lock that all processes of the server share (0.9.10), and the
        // last of them waits for it for ever.
        let has_ended = |pid| state_of(pid).is_none_or(|(state, _)| state == 'Z');
        let it_has = || has_ended(self.pid);
        if wait_until_blocking("a server that was told to end at once", IMMEDIATE_LIMIT, it_has).is_err() {
            let pids: Vec<i32> = children_of(self.pid).into_iter().chain([self.pid]).collect();
            for pid in &pids {
                let _ = self.signal(*pid, Signal::KILL);
            }
            // The next server refuses to start beside one that still has its memory.
            let all_have = || pids.iter().all(|pid| has_ended(*pid));
            wait_until_blocking("the end of a server that was killed", IMMEDIATE_LIMIT, all_have)?;
        }
        self.wait()
    }

    /// Stops the server in order, ending all sessions.
    ///
    /// # Errors
    /// When the server is not running.
    pub fn stop_fast(&mut self) -> Result<(), TestkitError> {
        self.stop(Signal::INT)
    }

    /// Starts the server again, stopping it fast first if it runs.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> Result<(), TestkitError> {
        if self.running {
            self.stop_fast()?;
        }
        self.launch()
    }

    /// Freezes the postmaster and every one of its processes: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When the server is not running.
    pub fn sigstop(&self) -> Result<(), TestkitError> {
        // The postmaster first: it must not start further processes meanwhile.
        self.signal(self.pid, Signal::STOP)?;
        for child in children_of(self.pid) {
            let _ = self.signal(child, Signal::STOP);
        }
        Ok(())
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When the server is not running.
    pub fn sigcont(&self) -> Result<(), TestkitError> {
        for child in children_of(self.pid) {
            let _ = self.signal(child, Signal::CONT);
        }
        self.signal(self.pid, Signal::CONT)
    }

    fn stop(&mut self, signal: Signal) -> Result<(), TestkitError> {
        self.signal(self.pid, signal)?;
        self.wait()
    }

    fn wait(&mut self) -> Result<(), TestkitError> {
        self.guard.wait()?;
        self.running = false;
        Ok(())
    }

    fn signal(&self, pid: i32, signal: Signal) -> Result<(), TestkitError> {
        let target = Pid::from_raw(pid).filter(|_| self.running);
        let target = target.ok_or_else(|| TestkitError::Command {
            what: "signal to a test server".to_owned(),
            output: "it is not running".to_owned(),
        })?;
        kill_process(target, signal).map_err(|e| io_context("signal a test server")(e.into()))
    }
}

impl Drop for PgServer {
    fn drop(&mut self) {
        if self.running {
            // Children first: they cannot obey the postmaster while they are frozen.
            let _ = self.sigcont();
        }
    }
}

/// The server of the surrounding test run, or one for this process that lives until the process ends.
///
/// # Errors
/// When no server could be started.
pub fn shared_server() -> Result<PgAddress, TestkitError> {
    static OWN: OnceLock<Result<PgServer, TestkitError>> = OnceLock::new();
    if let Some(shared) = PgAddress::from_environment() {
        return Ok(shared);
    }
    match OWN.get_or_init(|| PgVersion::from_environment().and_then(PgServer::start)) {
        Ok(server) => Ok(server.address().clone()),
        Err(error) => {
            Err(TestkitError::Command { what: "start of the shared test server".to_owned(), output: error.to_string() })
        }
    }
}

/// Copies a data directory with owners and modes: the server takes no other's.
fn copy_files(from: &Path, to: &Path) -> Result<(), TestkitError> {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).output();
    let copied = copied.map_err(io_context("copy the files of a test server"))?;
    if copied.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&copied.stderr).into_owned();
    Err(TestkitError::Command { what: "copy of the files of a test server".to_owned(), output })
}

fn free_port() -> Result<u16, TestkitError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io_context("find a free port"))?;
    Ok(listener.local_addr().map_err(io_context("find a free port"))?.port())
}

/// Whether a process is gone, or waits only for its parent to notice.
fn has_ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// Process ids whose parent is `parent`.
fn children_of(parent: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| state_of(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// The state of a process and its parent (proc(5)); `Z`: it has ended and nobody has asked how.
fn state_of(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold spaces.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
