//! The faults of a network, seen from both sides: slow, reset, half-open, and leading somewhere else.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use outbox_testkit::{FaultProxy, PgAddress, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::proxied::{Fixture, LIMIT, SILENCE, Wire, write};

/// A startup packet without parameters: enough for a connection to be made.
const STARTUP: [u8; 8] = [0, 0, 0, 8, 0, 3, 0, 0];

#[tokio::test]
async fn new_connections_go_to_the_new_server_and_those_that_exist_stay() {
    let fixture = Fixture::new().await;
    // It stands for another server, and counts who comes.
    let other = FaultProxy::on_socket(fixture.database.address()).unwrap();
    let mut old = fixture.through_proxy().await;
    fixture.proxy.set_upstream(other.address());
    let mut new = fixture.through_proxy().await;
    other.wait_for_connections(1, LIMIT).await.unwrap();
    other.cut_all();
    other.wait_for_connections(0, LIMIT).await.unwrap();
    assert!(write(&mut new, 1).await.is_err());
    write(&mut old, 2).await.unwrap();
    fixture.proxy.set_upstream(fixture.database.address());
    write(&mut fixture.through_proxy().await, 3).await.unwrap();
    assert_eq!((fixture.written().await, other.connections()), (2, 0));
}

#[tokio::test]
async fn trickle_lets_no_more_pass_in_either_direction_than_it_says() {
    let fixture = Fixture::new().await;
    let mut wire = fixture.wire().await;
    fixture.proxy.trickle(10_000);
    for statement in ["select repeat('x', 3000)", &format!("select length('{}')", "x".repeat(3_000))] {
        let started = Instant::now();
        wire.send(&[statement]).await;
        assert_eq!(wire.answer().await, "TDCZ");
        assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn trickling_connections_and_directions_do_not_wait_for_each_other() {
    let fixture = Fixture::new().await;
    let (mut slow, mut other) = (fixture.wire().await, fixture.wire().await);
    let before = fixture.proxy.frames();
    fixture.proxy.trickle(1_000);
    // At this rate the answer takes a thousand seconds.
    slow.send(&["select repeat('x', 1000000)"]).await;
    wait_until("the answer", LIMIT, async || fixture.proxy.frames() > before).await.unwrap();
    slow.send(&["insert into public.written values (1)"]).await;
    wait_until("the other direction", LIMIT, async || fixture.written().await == 1).await.unwrap();
    other.send(&["select 1"]).await;
    assert_eq!(other.answer().await, "TDCZ");
    fixture.proxy.forward();
    assert_eq!((slow.answer().await.as_str(), slow.answer().await.as_str()), ("TDCZ", "CZ"));
}

#[tokio::test]
async fn last_words_of_a_server_reach_a_client_that_goes_on_asking() {
    let fixture = Fixture::new().await;
    let mut wire = fixture.wire().await;
    // The words are on their way for a while, and what is asked meets a closed socket earlier.
    fixture.proxy.trickle(500);
    fixture.terminate(wire.backend()).await;
    wire.send(&[";"]).await;
    let (tag, words) = wire.frame().await.unwrap();
    assert!(tag == b'E' && words.windows(5).any(|code| code == b"57P01"), "{words:?}");
}

/// Both ends of a connection through a proxy on the loopback.
async fn both_ends() -> (FaultProxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = PgAddress::on_tcp("127.0.0.1", listener.local_addr().unwrap().port());
    let proxy = FaultProxy::on_loopback(&upstream).await.unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", proxy.address().port())).await.unwrap();
    client.write_all(&STARTUP).await.unwrap();
    let (mut server, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let mut startup = [0; STARTUP.len()];
    server.read_exact(&mut startup).await.unwrap();
    assert_eq!(startup, STARTUP);
    (proxy, client, server)
}

#[tokio::test]
async fn reset_is_an_error_on_both_sides_of_a_tcp_connection_and_a_cut_is_an_end() {
    for is_reset in [true, false] {
        let (proxy, mut client, mut server) = both_ends().await;
        if is_reset {
            proxy.reset_all();
        } else {
            proxy.cut_all();
        }
        for side in [&mut client, &mut server] {
            let read = timeout(LIMIT, side.read_u8()).await.unwrap().map_err(|error| error.kind());
            let expected = if is_reset { ErrorKind::ConnectionReset } else { ErrorKind::UnexpectedEof };
            assert_eq!(read, Err(expected));
        }
    }
}

#[tokio::test]
async fn reset_on_a_socket_ends_the_sessions_of_now_and_the_next_one_works() {
    let fixture = Fixture::new().await;
    let mut session = fixture.through_proxy().await;
    fixture.proxy.reset_all();
    fixture.proxy.wait_for_connections(0, LIMIT).await.unwrap();
    assert!(write(&mut session, 1).await.is_err());
    write(&mut fixture.through_proxy().await, 2).await.unwrap();
}

#[tokio::test]
async fn connections_that_have_executed_the_text_fall_silent_and_no_other_does() {
    let fixture = Fixture::new().await;
    let (mut listener, mut other) = (fixture.wire().await, fixture.through_proxy().await);
    listener.send(&["LISTEN hints"]).await;
    assert_eq!(listener.answer().await, "CZ");
    assert_eq!(fixture.proxy.black_hole_matching("UNLISTEN"), 0);
    assert_eq!(fixture.proxy.black_hole_matching("LISTEN"), 1);
    sqlx::query("notify hints, 'one'").execute(&mut other).await.unwrap();
    write(&mut other, 1).await.unwrap();
    listener.send(&["insert into public.written values (2)"]).await;
    assert!(listener.is_silent().await);
    assert_eq!((fixture.written().await, fixture.proxy.connections()), (1, 2));
    // Another mode does not give it its voice back.
    fixture.proxy.delay(Duration::from_millis(1));
    assert!(listener.is_silent().await);
    // Prepared statements are known by their texts as well.
    assert_eq!(fixture.proxy.black_hole_matching("public.written values ($1)"), 1);
    assert!(timeout(SILENCE, write(&mut other, 3)).await.is_err());
    fixture.proxy.forward();
    assert_eq!((listener.frame().await.unwrap().0, listener.answer().await.as_str()), (b'A', "CZ"));
}

#[tokio::test]
async fn black_hole_stops_what_is_under_way_and_forward_lets_the_rest_pass() {
    const BYTES: usize = 4_000_000;
    let fixture = Fixture::new().await;
    let mut wire = fixture.wire().await;
    let before = fixture.proxy.frames();
    wire.send(&[&format!("select repeat('x', {BYTES})")]).await;
    // The row is being written to a client that does not read.
    let row_begun = async || fixture.proxy.frames() >= before + 2 && wire.bytes_arrived() > 1_000;
    wait_until("the row", LIMIT, row_begun).await.unwrap();
    fixture.proxy.black_hole();
    let arrived = wire.bytes_arrived();
    let passed = wire.bytes_until_silence().await;
    assert_eq!(passed, arrived, "some passed because the client made room");
    fixture.proxy.forward();
    wire.skip(BYTES - passed).await;
}

#[tokio::test]
async fn proxy_in_a_named_directory_leaves_it_without_its_socket() {
    let fixture = Fixture::new().await;
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let proxy = FaultProxy::on_socket_in(dir.path(), fixture.database.address()).unwrap();
        assert_eq!(Path::new(proxy.address().host()), dir.path());
        assert!(FaultProxy::on_socket_in(dir.path(), fixture.database.address()).is_err());
        let mut wire = Wire::connect(proxy.address(), fixture.database.name()).await;
        wire.send(&["select 1"]).await;
        assert_eq!(wire.answer().await, "TDCZ");
        drop(proxy);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
