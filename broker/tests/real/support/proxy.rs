//! A network that can be cut: a TCP proxy in front of RabbitMQ.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use lapin::uri::AMQPUri;
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Works,
    /// Connections are closed, and new ones at once.
    Cut,
    /// Nothing moves, nobody is told.
    Stalled,
}

/// Passes bytes on to a server, as long as the network works.
pub(crate) struct Proxy {
    pub(crate) url: String,
    network: watch::Sender<Network>,
    traffic: Arc<Traffic>,
}

/// What went through.
#[derive(Default)]
struct Traffic {
    connections: AtomicUsize,
    consumers: AtomicUsize,
    cancels: AtomicUsize,
}

/// `basic.consume-ok`, from the server.
const CONSUME_OK: u8 = 21;
/// `basic.cancel`, from the client.
const CANCEL: u8 = 30;

/// Is there a method of class `basic` (60) at the head of a frame?
fn has_basic(method: u8, bytes: &[u8]) -> bool {
    bytes.windows(7).any(|w| w[0] == 0 && w[3..] == [0, 60, 0, method])
}

impl Proxy {
    /// Starts in front of this server.
    pub(crate) async fn start(url: &str) -> Self {
        let mut uri: AMQPUri = url.parse().expect("an AMQP URL");
        let server = (uri.authority.host.clone(), uri.authority.port);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        uri.authority.host = "127.0.0.1".into();
        uri.authority.port = listener.local_addr().expect("bound").port();
        let (network, watched) = watch::channel(Network::Works);
        let traffic = Arc::<Traffic>::default();
        tokio::spawn(accept(listener, server, watched, Arc::clone(&traffic)));
        Self { url: uri.to_string(), network, traffic }
    }

    /// Cuts every connection, waits until they are gone, and lets new ones through again.
    pub(crate) async fn cut_once(&self) {
        self.set(Network::Cut);
        let gone = async || (self.traffic.connections.load(SeqCst) == 0).then_some(());
        testkit::eventually("the cut", Duration::from_secs(5), gone).await.expect("in time");
        self.set(Network::Works);
    }

    /// Waits until a consumer behind the proxy was taken by the server, active or standing by.
    pub(crate) async fn consumer_accepted(&self) {
        let some = async || (self.traffic.consumers.load(SeqCst) > 0).then_some(());
        testkit::eventually("a consumer", Duration::from_secs(10), some).await.expect("in time");
    }

    /// Waits until every connection has ended, and counts the `basic.cancel`s that went through.
    pub(crate) async fn cancels(&self) -> usize {
        let gone = async || (self.traffic.connections.load(SeqCst) == 0).then_some(());
        testkit::eventually("the end", Duration::from_secs(5), gone).await.expect("in time");
        self.traffic.cancels.load(SeqCst)
    }

    /// Changes what the network does.
    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn accept(
    listener: TcpListener,
    server: (String, u16),
    network: watch::Receiver<Network>,
    traffic: Arc<Traffic>,
) {
    while let Ok((client, _)) = listener.accept().await {
        if *network.borrow() == Network::Cut {
            continue;
        }
        traffic.connections.fetch_add(1, SeqCst);
        let (server, network, traffic) = (server.clone(), network.clone(), Arc::clone(&traffic));
        tokio::spawn(async move {
            if let Ok(upstream) = TcpStream::connect(&server).await {
                pass(client, upstream, network, &traffic).await;
            }
            traffic.connections.fetch_sub(1, SeqCst);
        });
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    network: watch::Receiver<Network>,
    traffic: &Traffic,
) {
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let mut cut = network.clone();
    let note = |method: u8, counter: &AtomicUsize, bytes: &[u8]| {
        if has_basic(method, bytes) {
            counter.fetch_add(1, SeqCst);
        }
    };
    let from_client = |bytes: &[u8]| note(CANCEL, &traffic.cancels, bytes);
    let from_server = |bytes: &[u8]| note(CONSUME_OK, &traffic.consumers, bytes);
    tokio::select! {
        () = forward(client_reads, server_writes, network.clone(), from_client) => {}
        () = forward(server_reads, client_writes, network, from_server) => {}
        _ = cut.wait_for(|network| *network == Network::Cut) => {}
    }
}

async fn forward(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    note: impl Fn(&[u8]),
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if network.wait_for(|network| *network != Network::Stalled).await.is_err()
            || from.readable().await.is_err()
        {
            return;
        }
        // Stalled while waiting for bytes: they stay where they are.
        if *network.borrow() == Network::Stalled {
            continue;
        }
        match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => {
                note(&buffer[..n]);
                if to.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
