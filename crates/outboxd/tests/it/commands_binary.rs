//! The real binary against a database of the test's own: runs a command as a login, and reads back what
//! it did.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use outbox_testkit::TestDb;
use sqlx::PgConnection;
use tempfile::TempDir;

pub(crate) const OUTBOXD: &str = env!("CARGO_BIN_EXE_outboxd");

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The answer, which must be JSON of a command that succeeded.
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs `command` with `input` to its end.
pub(crate) fn end(command: &mut Command, input: &[u8]) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that ends early leaves the rest unread, which is not the writer's fault.
    let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A migrated database with two rails, and a folder for input.
pub(crate) struct Desk {
    pub(crate) db: TestDb,
    pub(crate) dir: TempDir,
}

impl Desk {
    /// `sepa` wants amounts; `telex` does not.
    pub(crate) async fn with_rails() -> Self {
        let desk = Self::on(TestDb::create().await.unwrap());
        for (rail, amounts) in [("sepa", "true"), ("telex", "false")] {
            let set = ["rail", "set", rail, "--on-unknown", "hold", "--amount-required", amounts];
            assert_eq!(desk.run("t_operator", &set).code, Some(0));
        }
        desk
    }

    pub(crate) fn on(db: TestDb) -> Self {
        Self { db, dir: tempfile::tempdir().unwrap() }
    }

    /// The command `arguments` as `login`, in an environment without anything of ours.
    pub(crate) fn command(&self, login: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(OUTBOXD);
        command.args(arguments).env_clear().env("HOME", self.dir.path()).env("DATABASE_URL", self.db.url(login));
        command
    }

    pub(crate) fn run(&self, login: &str, arguments: &[&str]) -> Ended {
        end(&mut self.command(login, arguments), b"")
    }

    /// `enqueue` of `input` as the login that may, with a summary as JSON.
    pub(crate) fn enqueue(&self, input: &str, options: &[&str]) -> Ended {
        self.run("t_ingest", &[&["enqueue", input, "--output", "json"], options].concat())
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) async fn dba(&self) -> PgConnection {
        self.db.connect_as("postgres").await.unwrap()
    }

    /// How many payments are recorded, in all three places or it is an error.
    pub(crate) async fn recorded(&self) -> i64 {
        let sql = "select (select count(*) from outbox.payment_outbox_identities), \
                   (select count(*) from outbox.payment_outbox_instructions), \
                   (select count(*) from outbox.payment_outbox_pending)";
        let counts: (i64, i64, i64) = sqlx::query_as(sql).fetch_one(&mut self.dba().await).await.unwrap();
        assert_eq!((counts.0, counts.0), (counts.1, counts.2));
        counts.0
    }

    /// The bytes of an instruction.
    pub(crate) async fn payload(&self, instruction_id: &str) -> Vec<u8> {
        let sql = "select payload from outbox.payment_outbox_instructions where instruction_id = $1";
        sqlx::query_scalar(sql).bind(instruction_id).fetch_one(&mut self.dba().await).await.unwrap()
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
