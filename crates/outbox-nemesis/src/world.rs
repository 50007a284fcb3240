//! What a run is about: a database, five rails, three daemons, each with a proxy of its own, and the ways for the harness
//! itself, which go through no fault. Putting the world together and taking it apart; faults are elsewhere.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outbox_testkit::{Certs, FaultProxy, PgAddress, PgServer, PgVersion, ServerClock, ServerSettings, TestDb};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tokio::sync::{Mutex, RwLock};

use crate::daemon::Daemon;
use crate::error::NemesisError;
use crate::fitness::Fitness;
use crate::journal::Journal;
use crate::pace::Pace;
use crate::patience::Patience;
use crate::rails::{RAILS, Rail};
use crate::settings::Settings;

/// How many daemons share the work.
pub(crate) const DAEMONS: usize = 3;

/// A database that is not back by then does not come back.
const BACK_LIMIT: Duration = Duration::from_secs(90);

/// Everything that exists in a run.
#[derive(Debug)]
pub(crate) struct World {
    /// What was asked for.
    pub(crate) settings: Settings,
    /// What the harness did.
    pub(crate) journal: Journal,
    /// How far the run is.
    pub(crate) pace: Pace,
    /// The rails.
    pub(crate) rails: Vec<Arc<Rail>>,
    /// The rails' certificates.
    pub(crate) certs: Certs,
    /// What the daemons go through.
    pub(crate) proxies: Vec<FaultProxy>,
    /// The daemons.
    pub(crate) daemons: Vec<Mutex<Daemon>>,
    /// The server of now; a promotion puts another in its place. `None` while it is being replaced.
    pub(crate) server: Mutex<Option<PgServer>>,
    /// The server's clock.
    pub(crate) clock: ServerClock,
    /// Which daemons can work.
    pub(crate) fitness: Arc<Fitness>,
    /// Held for reading by whoever records payments or decides as a person; a promotion holds it for writing, as what
    /// is recorded in the seconds that are lost would be lost with its business transaction.
    pub(crate) recording: RwLock<()>,
    way: PgAddress,
    database: String,
}

impl World {
    /// Puts it together.
    ///
    /// # Errors
    /// When a part does not come up.
    pub(crate) async fn start(settings: Settings, pace: Pace) -> Result<Arc<Self>, NemesisError> {
        let dir = settings.dir.clone();
        let journal = Journal::create(&dir.join("faults.jsonl"))?;
        let certs = Certs::new(&dir)?;
        let clock = ServerClock::new()?;
        let server = tokio::task::block_in_place(|| {
            PgServer::start_with(settings.postgres, &server_settings(&settings, &clock))
        })?;
        let way = PgAddress::on_socket(&dir, server.port());
        point(&dir, &server)?;
        let database = TestDb::create_on(&way).await?.keep();
        let mut rails = Vec::new();
        for kind in RAILS {
            let rail = Rail::start(kind, settings.seed, &dir, &certs).await?;
            set_contract(&way, &database, &rail).await?;
            rails.push(Arc::new(rail));
        }
        let (mut proxies, mut daemons) = (Vec::new(), Vec::new());
        for number in 1..=DAEMONS {
            let proxy = FaultProxy::on_loopback(&way).await?;
            let (name, program) = (format!("d{number}"), settings.program("outboxd"));
            let daemon = Daemon::start(&name, &program, &dir, proxy.address(), &database, &rails, &certs.ca)?;
            proxies.push(proxy);
            daemons.push(Mutex::new(daemon));
        }
        Ok(Arc::new(Self {
            journal,
            pace,
            rails,
            certs,
            proxies,
            daemons,
            server: Mutex::new(Some(server)),
            clock,
            fitness: Arc::default(),
            recording: RwLock::new(()),
            way,
            database,
            settings,
        }))
    }

    /// A URL of the database for `login`, by the way that no fault touches.
    #[must_use]
    pub(crate) fn url(&self, login: &str) -> String {
        self.way.url(&self.database, login)
    }

    /// A new session, once; the database may be away.
    ///
    /// # Errors
    /// When it is.
    pub(crate) async fn session(&self, login: &str) -> Result<PgConnection, NemesisError> {
        let opening = self.way.connect(&self.database, login);
        match tokio::time::timeout(Duration::from_secs(5), opening).await {
            Ok(opened) => Ok(opened?),
            Err(_) => Err(NemesisError::Wrong("no session within 5 s".to_owned())),
        }
    }

    /// Runs statements as superuser, once.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub(crate) async fn run(&self, sql: &str) -> Result<(), NemesisError> {
        let mut session = self.session("postgres").await?;
        execute(&mut session, sql).await
    }

    /// The rows of a statement of the superuser.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<PgRow>, NemesisError> {
        let mut session = self.session("postgres").await?;
        let asked = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut session).await;
        let rows = asked.map_err(NemesisError::sql(sql))?;
        let _ = session.close().await;
        Ok(rows)
    }

    /// The texts in the first column of a statement's rows.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub(crate) async fn texts(&self, sql: &str) -> Result<Vec<String>, NemesisError> {
        Ok(self.rows(sql).await?.iter().map(|row| row.get(0)).collect())
    }

    /// Waits until the database works again, and notes that it did not since `from_us`.
    ///
    /// # Errors
    /// When it does not come back.
    pub(crate) async fn back(&self, why: &str, from_us: i64) -> Result<(), NemesisError> {
        if !self.works_within(BACK_LIMIT).await {
            return Err(NemesisError::Wrong(format!("the database was not back after: {why}")));
        }
        self.journal.outage(why, from_us);
        Ok(())
    }

    /// Whether the database can be written to, now or within `limit`.
    pub(crate) async fn works_within(&self, limit: Duration) -> bool {
        let patience = Patience::of(limit);
        while self.run("create temp table is_back (n integer)").await.is_err() {
            if !patience.again().await {
                return false;
            }
        }
        true
    }

    /// The server's settings, for a copy of it as well.
    #[must_use]
    pub(crate) fn server_settings(&self) -> ServerSettings {
        server_settings(&self.settings, &self.clock)
    }

    /// From now on the harness and all proxies go to `server`.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn point_to(&self, server: &PgServer) -> Result<(), NemesisError> {
        point(&self.settings.dir, server)
    }

    /// The version of Postgres.
    #[must_use]
    pub(crate) fn postgres(&self) -> PgVersion {
        self.settings.postgres
    }

    /// Everything spoiled is as it should be again.
    ///
    /// # Errors
    /// When a rail cannot listen or the clock cannot be moved.
    pub(crate) async fn heal(&self) -> Result<(), NemesisError> {
        for proxy in &self.proxies {
            proxy.forward();
            // What was half-open would stay so for the daemon's own timeout.
            proxy.cut_all();
        }
        for rail in &self.rails {
            rail.heal().await?;
        }
        Ok(self.clock.move_to(0)?)
    }

    /// Ends daemons, rails and proxies, in this order; the database goes with the world.
    ///
    /// # Errors
    /// When a daemon does not end in order.
    pub(crate) async fn end(&self) -> Result<(), NemesisError> {
        for daemon in &self.daemons {
            daemon.lock().await.end().await?;
        }
        for rail in &self.rails {
            rail.stop().await;
        }
        Ok(())
    }
}

/// Runs statements that return nothing of interest.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn execute(session: &mut PgConnection, sql: &str) -> Result<(), NemesisError> {
    let first_line = sql.lines().next().unwrap_or_default().to_owned();
    let done = session.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    done.map(|_| ()).map_err(NemesisError::sql(&first_line))
}

async fn set_contract(way: &PgAddress, database: &str, rail: &Rail) -> Result<(), NemesisError> {
    let mut session = way.connect(database, "postgres").await?;
    let sql = format!("select outbox.set_payment_rail('{}', {})", rail.kind.name, rail.kind.contract());
    execute(&mut session, &sql).await
}

fn server_settings(settings: &Settings, clock: &ServerClock) -> ServerSettings {
    let mut configuration: Vec<String> =
        // Enough for everybody, and few enough to be taken one by one.
        ["max_connections = 80", "superuser_reserved_connections = 12", "max_wal_size = 512MB", "deadlock_timeout = 200ms"]
            .map(str::to_owned)
            .into();
    if settings.postgres.major() >= 17 {
        // 512 KiB instead of 8 GiB: it can be filled.
        configuration.push("max_notify_queue_pages = 64".to_owned());
    }
    ServerSettings {
        configuration,
        clock: Some(clock.clone()),
        disk: settings.disk.clone(),
        ..ServerSettings::default()
    }
}

/// The socket of the server, under a name that stays.
fn point(dir: &Path, server: &PgServer) -> Result<(), NemesisError> {
    let name = format!(".s.PGSQL.{}", server.port());
    let (link, new): (PathBuf, PathBuf) = (dir.join(&name), dir.join("socket.new"));
    symlink(server.socket_dir().join(&name), &new).map_err(NemesisError::io("link the server's socket"))?;
    std::fs::rename(&new, &link).map_err(NemesisError::io("link the server's socket"))
}
