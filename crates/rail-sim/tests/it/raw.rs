//! A client on a bare socket, which sees what a library would hide: where an answer breaks off, and
//! whether the end was a FIN or a reset.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// No wait in these tests is longer: what takes this long hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("it hangs")
}

pub(crate) fn request(key: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /pay HTTP/1.1\r\nhost: rail\r\nidempotency-key: {key}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The answer came whole by its own length; the connection may go on.
    Complete,
    Fin,
    Reset,
}

#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) announced: usize,
    pub(crate) end: End,
}

impl Seen {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().expect("a code").to_owned()
    }
}

pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self(within(TcpStream::connect(addr)).await.expect("the rail listens"))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        within(self.0.write_all(bytes)).await.expect("the rail reads");
    }

    pub(crate) async fn pay(&mut self, key: &str, body: &[u8]) -> Seen {
        self.send(&request(key, body)).await;
        self.answer().await
    }

    pub(crate) async fn answer(&mut self) -> Seen {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some((head, announced)) = head(&bytes)
                && bytes.len() - head >= announced
            {
                break End::Complete;
            }
            match within(self.0.read_buf(&mut bytes)).await {
                Ok(0) => break End::Fin,
                Ok(_) => {}
                Err(_) => break End::Reset,
            }
        };
        let (split, announced) = head(&bytes).unwrap_or((0, 0));
        let body = bytes.split_off(split);
        Seen { head: String::from_utf8(bytes).expect("an ASCII head"), body, announced, end }
    }
}

fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    Some((end, length.parse().ok()?))
}

pub(crate) async fn pay(addr: SocketAddr, key: &str, body: &[u8]) -> Seen {
    Raw::connect(addr).await.pay(key, body).await
}

pub(crate) async fn get(sim: &rail_sim::Sim, path: &str) -> Seen {
    let mut client = Raw::connect(sim.addr()).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: rail\r\n\r\n").as_bytes()).await;
    client.answer().await
}
