//! The daemon with its HTTP rail against a simulated rail on loopback, and the limit: a client that does nothing but write the
//! same bytes and read the answers, on as many connections.

use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use outbox_rail::{HttpRail, Rail};
use outbox_testkit::TestDb;
use rail_sim::{Durability, Sim, SimConfig, SimError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::drain::since_first_claim;
use super::{WARM, all_gone, warm};
use crate::daemon::{self, Daemon, settled};
use crate::error::{BenchError, io};
use crate::meter::{Cost, Meter};
use crate::world::{PAYLOAD_BYTES, World};

/// Connections to the rail at once, of either.
const CONNECTIONS: usize = 128;

/// Larger than any answer of the simulated rail.
const ANSWER_BYTES_MAX: usize = 4_096;

async fn rail(dir: &Path) -> Result<Sim, BenchError> {
    let ledger = dir.join(format!("{}.jsonl", Uuid::new_v4()));
    // Its disk is not what is measured.
    let config = SimConfig { durability: Durability::Written, ..SimConfig::with_ledger(ledger) };
    Sim::start(config).await.map_err(|error: SimError| BenchError::Wrong(format!("the simulated rail: {error}")))
}

/// What the bare client costs for so many requests; the server does nothing meanwhile.
///
/// # Errors
/// When the rail answers anything but a success.
pub(crate) async fn limit(world: &World, dir: &Path, count: u64) -> Result<Cost, BenchError> {
    let rail = rail(dir).await?;
    let db = world.outbox().await?;
    let meter = Meter::begin(&world.server, &db).await?;
    let (address, each) = (rail.addr(), count / CONNECTIONS as u64);
    let began = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(ask(address, each))).collect();
    for client in clients {
        client.await.map_err(|panic| BenchError::Wrong(panic.to_string()))??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let effects = rail.stats().effects;
    rail.stop().await;
    if effects != each * CONNECTIONS as u64 {
        return Err(BenchError::Wrong(format!("the rail executed {effects} of {count}")));
    }
    meter.end(effects, seconds).await
}

async fn ask(address: std::net::SocketAddr, count: u64) -> Result<(), BenchError> {
    let mut stream = TcpStream::connect(address).await.map_err(io("connect"))?;
    stream.set_nodelay(true).map_err(io("nodelay"))?;
    let body = [b'x'; PAYLOAD_BYTES];
    let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
    for _ in 0..count {
        let mut request = format!(
            "POST /payments HTTP/1.1\r\nhost: {address}\r\nidempotency-key: \"{}\"\r\naccept-encoding: identity\r\ncontent-type: application/json\r\n\
             content-length: {PAYLOAD_BYTES}\r\n\r\n",
            Uuid::now_v7()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        stream.write_all(&request).await.map_err(io("write"))?;
        answer.clear();
        while !is_whole(&answer)? {
            if stream.read_buf(&mut answer).await.map_err(io("read"))? == 0 || answer.len() > ANSWER_BYTES_MAX {
                return Err(BenchError::Wrong("the rail's answer is not whole".to_owned()));
            }
        }
    }
    Ok(())
}

/// Whether the answer has come, by its `content-length`.
fn is_whole(answer: &[u8]) -> Result<bool, BenchError> {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(false) };
    if !head.starts_with("HTTP/1.1 20") {
        return Err(BenchError::Wrong(format!("the rail answered {head}")));
    }
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.trim().parse().ok());
    let length: usize = length.ok_or_else(|| BenchError::Wrong(format!("an answer without a length: {head}")))?;
    Ok(body.len() >= length)
}

/// A drain of `count` payments over HTTP.
///
/// # Errors
/// When the daemon fails, a payment is left, or one was executed twice.
pub(crate) async fn drain(world: &World, dir: &Path, count: u64, settings: &[String]) -> Result<Cost, BenchError> {
    let db = world.outbox().await?;
    let sim = rail(dir).await?;
    let cost = dispatch(world, &db, &sim, count, settings).await?;
    let effects = sim.stats().effects;
    sim.stop().await;
    all_gone(&db, effects, WARM + count).await?;
    Ok(cost)
}

async fn dispatch(world: &World, db: &TestDb, sim: &Sim, count: u64, settings: &[String]) -> Result<Cost, BenchError> {
    let url = format!("{}/payments", sim.url());
    // Last, so that nothing said of the rail inside the process is meant: both clients have as many connections.
    let rail = format!("rails.{}", daemon::RAIL);
    let own = [format!("{rail}.url={url}"), format!("{rail}.concurrency={CONNECTIONS}")];
    let all = [settings, own.as_slice()].concat();
    let config = daemon::configuration(db, "bench", &all)?;
    let made = outboxd::settings::http_rails(&config.rails[&daemon::rail_name()?], &[None], config.credentials);
    let settings = made.into_iter().next().ok_or_else(|| BenchError::Wrong("no endpoint".to_owned()))?;
    let client = HttpRail::new(settings).map_err(|error| BenchError::Wrong(error.to_string()))?;
    let client: Arc<dyn Rail> = Arc::new(client);
    let daemon = [Daemon::start(db, "bench", &client, &all)?];
    warm(world, db, &daemon, count).await?;
    let meter = Meter::begin(&world.server, db).await?;
    world.pause(db, false).await?;
    settled(&daemon, WARM + count).await?;
    let ended = SystemTime::now();
    let [daemon] = daemon;
    daemon.stop().await?;
    let cost = meter.end(count, 0.0).await?;
    Ok(Cost { seconds: since_first_claim(db, ended).await?, ..cost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_as_many_bytes_as_it_says() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
        assert!(is_whole(whole).unwrap());
        for cut in 0..whole.len() {
            assert!(!is_whole(&whole[..cut]).unwrap(), "{cut}");
        }
        assert!(is_whole(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(is_whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
