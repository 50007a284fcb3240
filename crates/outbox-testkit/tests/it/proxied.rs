//! A fresh database behind a proxy, and sessions through it: sqlx's, and one that sees each frame. It
//! claims nothing.

use std::time::Duration;

use outbox_testkit::{FaultProxy, PgAddress, TestDb};
use sqlx::postgres::PgConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Only a test that fails takes as long; a starved machine may take half of it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// How long a test listens for an answer that must not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(200);

pub(crate) struct Fixture {
    pub(crate) database: TestDb,
    pub(crate) proxy: FaultProxy,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let database = TestDb::create().await.unwrap();
        let mut dba = database.connect_as("postgres").await.unwrap();
        sqlx::raw_sql("create table public.written (n int)").execute(&mut dba).await.unwrap();
        let proxy = FaultProxy::on_socket(database.address()).unwrap();
        Self { database, proxy }
    }

    pub(crate) async fn through_proxy(&self) -> PgConnection {
        self.proxy.address().connect(self.database.name(), "postgres").await.unwrap()
    }

    pub(crate) async fn wire(&self) -> Wire {
        Wire::connect(self.proxy.address(), self.database.name()).await
    }

    /// How many rows are committed.
    pub(crate) async fn written(&self) -> i64 {
        let mut direct = self.database.connect_as("postgres").await.unwrap();
        sqlx::query_scalar("select count(*) from public.written").fetch_one(&mut direct).await.unwrap()
    }

    /// Ends a backend from outside.
    pub(crate) async fn terminate(&self, backend: i32) {
        let mut direct = self.database.connect_as("postgres").await.unwrap();
        let ended: bool = sqlx::query_scalar("select pg_terminate_backend($1, 10000)")
            .bind(backend)
            .fetch_one(&mut direct)
            .await
            .unwrap();
        assert!(ended);
    }
}

pub(crate) async fn write(session: &mut PgConnection, n: i32) -> Result<(), sqlx::Error> {
    sqlx::query("insert into public.written values ($1)").bind(n).execute(session).await.map(|_| ())
}

/// A session of the superuser, frame by frame.
pub(crate) struct Wire {
    stream: UnixStream,
    /// Process id and secret of the backend, as a cancellation repeats them.
    key: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(address: &PgAddress, database: &str) -> Self {
        let mut wire = Self { stream: Self::socket(address).await, key: Vec::new() };
        let parameters = format!("user\0postgres\0database\0{database}\0\0");
        wire.stream.write_all(&first_packet(3 << 16, parameters.as_bytes())).await.unwrap();
        loop {
            match wire.frame().await.unwrap() {
                (b'Z', _) => return wire,
                (b'K', key) => wire.key = key,
                _ => {}
            }
        }
    }

    async fn socket(address: &PgAddress) -> UnixStream {
        let file = format!("{}/.s.PGSQL.{}", address.host(), address.port());
        UnixStream::connect(file).await.unwrap()
    }

    pub(crate) fn backend(&self) -> i32 {
        i32::from_be_bytes(self.key[..4].try_into().unwrap())
    }

    /// Asks over a connection of its own that the running statement be cancelled, and does not wait.
    pub(crate) async fn cancel(&self, address: &PgAddress) {
        Self::socket(address).await.write_all(&first_packet(80_877_102, &self.key)).await.unwrap();
    }

    /// Sends the statements without waiting in between.
    pub(crate) async fn send(&mut self, statements: &[&str]) {
        let mut frames = Vec::new();
        for statement in statements {
            frames.push(b'Q');
            frames.extend(u32::try_from(statement.len() + 5).unwrap().to_be_bytes());
            frames.extend(statement.bytes());
            frames.push(0);
        }
        self.stream.write_all(&frames).await.unwrap();
    }

    /// The next frame's type and body; `None` at the end, however the connection ended.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let tag = self.stream.read_u8().await?;
            let length = self.stream.read_u32().await?;
            let mut body = vec![0; usize::try_from(length).unwrap() - 4];
            self.stream.read_exact(&mut body).await?;
            std::io::Result::Ok((tag, body))
        };
        timeout(LIMIT, read).await.unwrap().ok()
    }

    /// Reads one answer: the types of its frames up to "ready for query", or up to the end.
    pub(crate) async fn answer(&mut self) -> String {
        let mut tags = String::new();
        while !tags.ends_with('Z') {
            let Some((tag, _)) = self.frame().await else { break };
            tags.push(char::from(tag));
        }
        tags
    }

    /// How many bytes have come and are not read yet.
    pub(crate) fn bytes_arrived(&self) -> usize {
        usize::try_from(rustix::io::ioctl_fionread(&self.stream).unwrap()).unwrap()
    }

    /// Reads so many bytes.
    pub(crate) async fn skip(&mut self, count: usize) {
        timeout(LIMIT, self.stream.read_exact(&mut vec![0; count])).await.unwrap().unwrap();
    }

    /// How many bytes come until there is a silence, or the end.
    pub(crate) async fn bytes_until_silence(&mut self) -> usize {
        let (mut count, mut bytes) = (0, vec![0; 64 * 1024]);
        while let Ok(Ok(read @ 1..)) = timeout(SILENCE, self.stream.read(&mut bytes)).await {
            count += read;
        }
        count
    }

    /// Whether nothing comes for a while, the end neither.
    pub(crate) async fn is_silent(&mut self) -> bool {
        timeout(SILENCE, self.stream.read_u8()).await.is_err()
    }
}

fn first_packet(code: u32, rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(rest.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
}
