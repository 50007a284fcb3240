//! Rails below HTTP, for what a rail that speaks it cannot do: not take a connection, and stop reading
//! in the middle of a body.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rail_sim::Sim;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::rig::{LIMIT, RAILS};

fn settings(address: SocketAddr) -> [String; 2] {
    RAILS.map(|rail| format!("rails.{rail}.url=http://{address}/payments"))
}

/// From now on each connection to `listener` is one to `sim`: a payment in doubt stays at its endpoint, so a rail that
/// gets its hearing back has to be where it was deaf.
fn pass_on(listener: Arc<TcpListener>, sim: &Sim) -> JoinHandle<()> {
    let to = sim.addr();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // Either end may go away.
                if let Ok(mut rail) = TcpStream::connect(to).await {
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut rail).await;
                }
            });
        }
    })
}

/// A rail whose queue of connections is full: connecting to it hangs.
pub(crate) struct FullRail {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    accepting: std::sync::Mutex<Option<JoinHandle<()>>>,
    _queue: Vec<TcpStream>,
}

/// The bytes that a rail was sent.
pub(crate) struct Bytes(Arc<AtomicUsize>);

impl Bytes {
    /// How many so far.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl FullRail {
    pub(crate) async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        // The kernel takes one or two more than it was told.
        while let Ok(taken) =
            tokio::time::timeout(std::time::Duration::from_millis(200), TcpStream::connect(address)).await
        {
            queue.push(taken.unwrap());
        }
        let accepting = std::sync::Mutex::new(None);
        Self { address, listener: Arc::new(listener), accepting, _queue: queue }
    }

    /// Settings that send both rails' payments here.
    pub(crate) fn settings(&self) -> [String; 2] {
        settings(self.address)
    }

    /// How many connects to it are under way.
    pub(crate) fn hanging_connects(&self) -> usize {
        // Columns of the kernel's table: number, local address, remote address, state; 02 is SYN_SENT.
        let remote = format!(":{:04X} 02 ", self.address.port());
        std::fs::read_to_string("/proc/net/tcp").unwrap().lines().filter(|line| line.contains(&remote)).count()
    }

    /// Takes every connection from now on and counts what comes in.
    pub(crate) fn accept_and_count(&self) -> Bytes {
        let count = Arc::new(AtomicUsize::new(0));
        let (listener, counter) = (Arc::clone(&self.listener), Arc::clone(&count));
        let accepting = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        counter.fetch_add(read, Ordering::SeqCst);
                    }
                });
            }
        });
        self.accept_by(accepting);
        Bytes(count)
    }

    /// Is `sim` from now on.
    pub(crate) fn becomes(&self, sim: &Sim) {
        self.accept_by(pass_on(Arc::clone(&self.listener), sim));
    }

    fn accept_by(&self, accepting: JoinHandle<()>) {
        if let Some(before) = self.accepting.lock().unwrap().replace(accepting) {
            before.abort();
        }
    }
}

impl Drop for FullRail {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.lock().unwrap().take() {
            accepting.abort();
        }
    }
}

/// A rail that reads half a megabyte of each request, and then no more.
pub(crate) struct HalfReader {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    halves: watch::Receiver<usize>,
    accepting: JoinHandle<()>,
}

impl HalfReader {
    pub(crate) async fn new() -> Self {
        let listener = Arc::new(TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let address = listener.local_addr().unwrap();
        let (told, halves) = watch::channel(0);
        let deaf = Arc::clone(&listener);
        let accepting = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = deaf.accept().await {
                let mut half = vec![0; 512 << 10];
                if stream.read_exact(&mut half).await.is_ok() {
                    told.send_modify(|count| *count += 1);
                }
                held.push(stream);
            }
        });
        Self { address, listener, halves, accepting }
    }

    /// Is `sim` from now on.
    pub(crate) fn becomes(&mut self, sim: &Sim) {
        self.accepting.abort();
        self.accepting = pass_on(Arc::clone(&self.listener), sim);
    }

    /// Settings that send both rails' payments here.
    pub(crate) fn settings(&self) -> [String; 2] {
        settings(self.address)
    }

    /// Waits until half of so many payments has been read.
    pub(crate) async fn half_read(&self, count: usize) {
        let mut halves = self.halves.clone();
        tokio::time::timeout(LIMIT, halves.wait_for(|read| *read >= count)).await.unwrap().unwrap();
    }
}

impl Drop for HalfReader {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
