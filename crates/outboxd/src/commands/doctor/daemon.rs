//! What the daemon of this host says of itself at `/readyz`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::finding::Finding;

pub(super) const DAEMON: &str = "daemon";

/// The daemon cuts a connection off after the same time.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Room for the reasons of hundreds of rails; what is longer comes from something else.
const ANSWER_BYTES_MAX: u64 = 262_144;

/// Asks the daemon that serves health at `listen`.
pub(super) async fn examine(listen: Option<SocketAddr>) -> Vec<Finding> {
    let Some(listen) = listen else { return vec![Finding::skipped(DAEMON, "health.listen is off")] };
    if listen.port() == 0 {
        return vec![Finding::skipped(DAEMON, "health.listen has port 0: the log says which port is served")];
    }
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    match tokio::time::timeout(TIMEOUT, ask(address)).await {
        Err(_) => vec![silent(address, "no answer")],
        Ok(Err(error)) => vec![silent(address, &error.to_string())],
        Ok(Ok(answer)) => judge(address, &answer),
    }
}

/// Who listens at every address is asked at this host's own.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

fn silent(address: SocketAddr, why: &str) -> Finding {
    Finding::fault(DAEMON, format!("{address}: {why}"), "is it running? systemctl status outboxd, and its log")
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn judge(address: SocketAddr, answer: &str) -> Vec<Finding> {
    let body = answer.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
    let Some((Some(ready), body)) = body.map(|body| (body["ready"].as_bool(), body)) else {
        let to_do = "who listens there? Give the daemon an address of its own: health.listen";
        return vec![Finding::fault(DAEMON, format!("{address}: what answers is no outboxd"), to_do)];
    };
    let listed = |key: &str| -> Vec<String> {
        let reasons = body[key].as_array().into_iter().flatten();
        reasons.map(|one| format!("{}: {}", text(one, "subject"), text(one, "reason"))).collect()
    };
    let reasons = listed("reasons");
    let mut findings: Vec<Finding> =
        reasons.iter().map(|what| Finding::fault(DAEMON, format!("not ready: {what}"), "mend what it names")).collect();
    if ready {
        findings.push(Finding::ok(DAEMON, format!("ready at {address}")));
    } else if reasons.is_empty() {
        findings.push(Finding::fault(DAEMON, "not ready, and says not why", "look at its log"));
    }
    for what in listed("off").iter().filter(|what| !reasons.contains(what)) {
        findings.push(Finding::fault(DAEMON, format!("lane off: {what}"), "mend what it names"));
    }
    for what in listed("open") {
        let to_do = "the rail is left alone for a while: look at it, and at `breaker.opened` in the log";
        findings.push(Finding::warning(DAEMON, format!("breaker open: {what}"), to_do));
    }
    findings
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, expected: &[&str]) {
        let found: Vec<String> =
            judge(([127, 0, 0, 1], 1).into(), answer).iter().map(|finding| format!("{finding:?}")).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(found.iter().zip(expected).all(|(found, words)| found.contains(words)), "{found:?}");
    }

    #[test]
    fn every_reason_of_the_daemon_is_told_once() {
        let head = "HTTP/1.0 503 Service Unavailable\r\n\r\n";
        let one = |subject, reason| format!("{{\"subject\":\"{subject}\",\"reason\":\"{reason}\"}}");
        let (rail, database) = (one("rail a", "no contract"), one("database", "away"));
        check(
            &format!("{head}{{\"ready\":false,\"reasons\":[{database},{rail}],\"off\":[{rail}],\"open\":[]}}"),
            &["not ready: database: away", "not ready: rail a: no contract"],
        );
        let open = one("rail b", "UNKNOWN");
        check(
            &format!("{head}{{\"ready\":true,\"reasons\":[],\"off\":[{rail}],\"open\":[{open}]}}"),
            &["verdict: Ok", "lane off: rail a: no contract", "breaker open: rail b: UNKNOWN"],
        );
        check("HTTP/1.1 404 Not Found\r\n\r\n{\"error\":\"x\"}", &["what answers is no outboxd"]);
        check("garbage", &["what answers is no outboxd"]);
    }
}
