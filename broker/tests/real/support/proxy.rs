//! A network that can be cut: a TCP proxy in front of RabbitMQ.

use std::net::Ipv4Addr;

use lapin::uri::AMQPUri;
use tokio::io::AsyncWriteExt as _;
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
        tokio::spawn(accept(listener, server, watched));
        Self { url: uri.to_string(), network }
    }

    /// Changes what the network does.
    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn accept(listener: TcpListener, server: (String, u16), network: watch::Receiver<Network>) {
    while let Ok((client, _)) = listener.accept().await {
        if *network.borrow() != Network::Cut
            && let Ok(upstream) = TcpStream::connect(&server).await
        {
            tokio::spawn(pass(client, upstream, network.clone()));
        }
    }
}

async fn pass(client: TcpStream, server: TcpStream, network: watch::Receiver<Network>) {
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let mut cut = network.clone();
    tokio::select! {
        () = forward(client_reads, server_writes, network.clone()) => {}
        () = forward(server_reads, client_writes, network) => {}
        _ = cut.wait_for(|network| *network == Network::Cut) => {}
    }
}

async fn forward(
    from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
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
                if to.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
