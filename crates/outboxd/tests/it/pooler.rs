//! A real pgbouncer between daemon and database. In transaction mode, session locks and LISTEN land on
//! server sessions that others use, so the daemon must find out and refuse; in session mode they do not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use outbox_testkit::{ChildGuard, PgAddress, TestDb, wait_until_blocking};
use rustix::process::geteuid;

use crate::launch::{Launch, cut_sessions, database, run_beside};
use crate::rig::LIMIT;

const PORT: u16 = 6432;
/// What makes a pooler take a client that sets its own limits, without having them.
const IGNORING: &str = "ignore_startup_parameters = options, extra_float_digits";

struct Pooler {
    _child: ChildGuard,
    address: PgAddress,
    _dir: tempfile::TempDir,
}

impl Pooler {
    /// In front of `db`, with `mode` and further lines of its configuration.
    fn start(db: &TestDb, mode: &str, lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // pgbouncer refuses root, as the server does.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let path = dir.path().display();
        let (host, port) = (db.address().host(), db.address().port());
        let text = format!(
            "[databases]\n{} = host={host} port={port}\n[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\n\
             unix_socket_dir = {path}\nauth_type = trust\nauth_file = {path}/users\npool_mode = {mode}\n\
             max_client_conn = 100\ndefault_pool_size = 20\n{lines}\n",
            db.name()
        );
        fs::write(dir.path().join("pgbouncer.ini"), text).unwrap();
        fs::write(dir.path().join("users"), "\"t_dispatcher\" \"\"\n").unwrap();
        let ini = dir.path().join("pgbouncer.ini");
        let (program, arguments) = match geteuid().is_root() {
            true => ("setpriv", &["--reuid=nobody", "--clear-groups", "--pdeathsig=KILL", "pgbouncer"][..]),
            false => ("pgbouncer", &[][..]),
        };
        let log = dir.path().join("log");
        let child = ChildGuard::spawn(Path::new(program), &log, |command| {
            command.args(arguments).arg("-q").arg(&ini);
        });
        let child = child.unwrap();
        let socket = dir.path().join(format!(".s.PGSQL.{PORT}"));
        let up = wait_until_blocking("pgbouncer's socket", LIMIT, || socket.exists());
        up.unwrap_or_else(|error| panic!("{error}\n{}", child.log()));
        Self { _child: child, address: PgAddress::on_socket(dir.path(), PORT), _dir: dir }
    }
}

/// Lets new sessions of the dispatcher have limits without asking for them.
async fn limit_the_login(db: &TestDb) {
    for limit in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
        let name = db.name();
        run_beside(db, &format!("alter role t_dispatcher in database {name} set {limit} = '900ms'")).await;
    }
    // The pooler keeps sessions from before, which do not have them.
    cut_sessions(db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_pooler_ends_with_78_however_it_is_set_up() {
    let db = database().await;
    Launch::at(&Pooler::start(&db, "transaction", "").address, db.name()).refused(78, "there is a pooler").await;
    let pooler = Pooler::start(&db, "transaction", IGNORING);
    let launch = Launch::at(&pooler.address, db.name());
    launch.refused(78, "the server does not keep the limits").await;
    limit_the_login(&db).await;
    launch.refused(78, "there is a pooler").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_pooler_is_accepted_where_the_limits_are_in_force_all_the_same() {
    let db = database().await;
    Launch::at(&Pooler::start(&db, "session", "").address, db.name()).refused(78, "there is a pooler").await;
    let pooler = Pooler::start(&db, "session", IGNORING);
    let launch = Launch::at(&pooler.address, db.name());
    launch.refused(78, "the server does not keep the limits").await;
    limit_the_login(&db).await;
    launch.accepted().await;
}
