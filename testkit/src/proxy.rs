//! A TCP proxy between a program and a server, to cut, stall, slow or redirect the network between them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    /// Everything passes.
    Whole,
    /// Nothing passes, connections stay open.
    Stalled,
    /// Requests pass, answers are held back.
    Muted,
    /// Everything passes, each part this much later.
    Slow(Duration),
    /// Everything passes, byte by byte.
    Sliced,
    /// No connection.
    Cut,
}

#[derive(Debug, Clone)]
struct State {
    network: Network,
    /// A request with these bytes is the last one that is answered to nobody.
    mute_at: Option<Arc<[u8]>>,
    /// How often it was cut: a connection from before a cut is dead, even if it missed the moment.
    cuts: u64,
    /// Whether the last cut was a reset (RST) instead of an orderly end (FIN).
    is_abrupt: bool,
    /// How often the far side forgot its connections.
    losses: u64,
    /// Where new connections go, `host:port`.
    target: String,
}

impl State {
    /// Falls silent if this is the request for it; tells whether it did.
    fn mute_if_asked(&mut self, request: &[u8]) -> bool {
        let is_it = |bytes: &Arc<[u8]>| request.windows(bytes.len().max(1)).any(|w| w == &**bytes);
        let is_asked = self.mute_at.as_ref().is_some_and(is_it);
        if is_asked {
            self.network = Network::Muted;
            self.mute_at = None;
        }
        is_asked
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Answer,
}

/// A TCP proxy on a free port of 127.0.0.1. Ends on drop, with all its connections.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    port: u16,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts one in front of a server's URL (`redis://127.0.0.1:6379`, `amqp://…`) or `host:port`.
    pub async fn start(target: &str) -> Result<Self> {
        let (from, to) = address_range(target);
        let address = target[from..to].to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let url = format!("{}127.0.0.1:{port}{}", &target[..from], &target[to..]);
        let found = tokio::net::lookup_host(&address).await;
        drop(found.with_context(|| format!("{address} is no host:port"))?);
        let state = watch::Sender::new(State {
            network: Network::Whole,
            mute_at: None,
            cuts: 0,
            is_abrupt: false,
            losses: 0,
            target: address,
        });
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Ok(Self { url, port, state, accepting })
    }

    /// The target's URL with the proxy's address in it.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes all connections and every new one at once, until healed.
    pub fn cut(&self) {
        self.state.send_modify(|state| {
            state.network = Network::Cut;
            state.cuts += 1;
            state.is_abrupt = false;
        });
    }

    /// Resets all connections (RST); new ones pass.
    pub fn reset(&self) {
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.is_abrupt = true;
        });
    }

    /// Leaves all connections half-open: the server has lost them and the client is not told. What
    /// it sends vanishes; new connections pass.
    pub fn lose(&self) {
        self.state.send_modify(|state| state.losses += 1);
    }

    /// Lets everything pass, each part this much later.
    pub fn slow(&self, by: Duration) {
        self.state.send_modify(|state| state.network = Network::Slow(by));
    }

    /// Lets everything pass, byte by byte.
    pub fn slice(&self) {
        self.state.send_modify(|state| state.network = Network::Sliced);
    }

    /// Leads new connections to another server (a URL or `host:port`). Those that stand stay.
    pub fn redirect(&self, target: &str) {
        let (from, to) = address_range(target);
        self.state.send_modify(|state| target[from..to].clone_into(&mut state.target));
    }

    /// Holds everything back in both directions; connections stay open, new ones too.
    pub fn stall(&self) {
        self.state.send_modify(|state| state.network = Network::Stalled);
    }

    /// Lets requests through and holds answers back: the work is done and nobody hears of it. After
    /// a [`Self::cut`] those answers are lost.
    pub fn mute(&self) {
        self.state.send_modify(|state| state.network = Network::Muted);
    }

    /// Lets everything through until a request with these bytes has passed, and is mute from then
    /// on: what was asked there is done, and nobody hears of it. The bytes must come in one piece.
    pub fn mute_at(&self, bytes: &[u8]) {
        self.state.send_modify(|state| state.mute_at = Some(bytes.into()));
    }

    /// Tells whether answers are held back now.
    pub fn is_mute(&self) -> bool {
        self.state.borrow().network == Network::Muted
    }

    /// Lets everything through again, also what was held back.
    pub fn heal(&self) {
        self.state.send_modify(|state| state.network = Network::Whole);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if state.borrow().network != Network::Cut {
            tokio::spawn(carry(client, state.clone()));
        }
    }
}

async fn carry(mut client: TcpStream, sender: watch::Sender<State>) {
    let mut state = sender.subscribe();
    let State { cuts, losses, target, .. } = state.borrow().clone();
    let mut other = state.clone();
    let connect = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(target));
    let Ok(Ok(mut server)) = connect.await else { return };
    // Fails on a connection that has just ended, which then shows when it is used.
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let is_lost = tokio::select! {
        // A cut also ends the pumps, but says how to end the connection.
        biased;
        // Also when the proxy is gone.
        _ = state.wait_for(|state| state.cuts != cuts) => false,
        seen = other.wait_for(|state| state.losses != losses) => seen.is_ok(),
        _ = join(&mut client, &mut server, &sender) => return,
    };
    if is_lost {
        drop(server);
        tokio::select! {
            _ = swallow(&mut client) => {}
            _ = state.wait_for(|state| state.cuts != cuts) => {}
        }
    } else if state.borrow().is_abrupt {
        let _ = client.set_zero_linger().and_then(|()| server.set_zero_linger());
    }
}

/// Carries both directions until both have ended or one breaks.
async fn join(
    client: &mut TcpStream,
    server: &mut TcpStream,
    sender: &watch::Sender<State>,
) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(
        pump(from_client, to_server, Direction::Request, sender),
        pump(from_server, to_client, Direction::Answer, sender),
    )?;
    Ok(())
}

/// Reads and forgets.
async fn swallow(from: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 4 * 1024];
    while from.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    sender: &watch::Sender<State>,
) -> io::Result<()> {
    let mut state = sender.subscribe();
    let cuts = state.borrow().cuts;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if direction == Direction::Request {
            sender.send_if_modified(|state| state.mute_if_asked(&buffer[..length]));
        }
        let passes = |state: &State| match state.network {
            Network::Whole | Network::Slow(_) | Network::Sliced => true,
            Network::Muted => direction == Direction::Request,
            Network::Stalled | Network::Cut => false,
        };
        let is_over = |state: &State| state.cuts != cuts || passes(state);
        let now = state.wait_for(is_over).await.map_err(io::Error::other)?.clone();
        if now.cuts != cuts {
            // Cut and healed at once: what was held back before is lost all the same.
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let network = now.network;
        if let Network::Slow(by) = network {
            tokio::time::sleep(by).await;
        }
        if length == 0 {
            return to.shutdown().await;
        }
        let part = if network == Network::Sliced { 1 } else { length };
        for slice in buffer[..length].chunks(part) {
            to.write_all(slice).await?;
        }
    }
}

/// Where in a URL its `host:port` is.
fn address_range(url: &str) -> (usize, usize) {
    if url.parse::<SocketAddr>().is_ok() {
        return (0, url.len());
    }
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..].find(['/', '?']).map_or(url.len(), |at| authority + at);
    let host = url[authority..end].rfind('@').map_or(authority, |at| authority + at + 1);
    (host, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Redis, eventually};

    async fn ask(stream: &mut TcpStream) -> Option<usize> {
        stream.write_all(b"PING\r\n").await.ok()?;
        let mut answer = [0; 7];
        let within = Duration::from_millis(300);
        let read = tokio::time::timeout(within, stream.read_exact(&mut answer)).await;
        read.ok()?.ok()
    }

    #[test]
    fn only_the_address_of_a_url_is_replaced() {
        let host = |url: &'static str| {
            let (from, to) = address_range(url);
            &url[from..to]
        };
        assert_eq!(host("postgres://u:p@h:5432/db?x=1"), "h:5432");
        assert_eq!(host("amqp://u:p@127.0.0.1:5672/%2f"), "127.0.0.1:5672");
        assert_eq!(host("redis://127.0.0.1:6379"), "127.0.0.1:6379");
        assert_eq!(host("127.0.0.1:6379"), "127.0.0.1:6379");
    }

    #[tokio::test]
    async fn a_stalled_network_delivers_late_and_a_cut_one_never() {
        let redis = Redis::start().await.expect("starts");
        let proxy = Proxy::start(&redis.url()).await.expect("starts");
        assert_eq!(proxy.url(), format!("redis://127.0.0.1:{}", proxy.port()));
        let connect = async || TcpStream::connect(("127.0.0.1", proxy.port())).await;
        let mut stream = connect().await.expect("connects");
        assert_eq!(ask(&mut stream).await, Some(7));

        for hold_back in [Proxy::stall, Proxy::mute] {
            hold_back(&proxy);
            assert_eq!(ask(&mut stream).await, None);
            proxy.heal();
            let mut late = [0; 7];
            stream.read_exact(&mut late).await.expect("the held answer");
            assert_eq!(&late, b"+PONG\r\n");
        }

        proxy.mute_at(b"ING");
        assert_eq!(ask(&mut stream).await, None);
        assert!(proxy.is_mute());
        proxy.heal();
        stream.read_exact(&mut [0; 7]).await.expect("the held answer");

        proxy.mute();
        assert_eq!(ask(&mut stream).await, None);
        proxy.cut();
        proxy.heal();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "the held answer is lost");
        stream = connect().await.expect("connects");
        assert_eq!(ask(&mut stream).await, Some(7));

        proxy.cut();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
        proxy.heal();
        let again = async || ask(&mut connect().await.ok()?).await;
        eventually("a new connection", Duration::from_secs(5), again).await.expect("healed");
    }

    #[tokio::test]
    async fn a_slow_or_sliced_network_changes_when_bytes_come_and_not_which() {
        let redis = Redis::start().await.expect("starts");
        let proxy = Proxy::start(&redis.url()).await.expect("starts");
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("connects");
        proxy.slice();
        assert_eq!(ask(&mut stream).await, Some(7));
        proxy.slow(Duration::from_millis(40));
        let asked_at = tokio::time::Instant::now();
        assert_eq!(ask(&mut stream).await, Some(7));
        assert!(asked_at.elapsed() >= Duration::from_millis(80), "each way is slow");
    }

    #[tokio::test]
    async fn a_reset_is_an_error_and_a_lost_connection_is_silence() {
        let redis = Redis::start().await.expect("starts");
        let proxy = Proxy::start(&redis.url()).await.expect("starts");
        let connect = async || TcpStream::connect(("127.0.0.1", proxy.port())).await;
        let mut stream = connect().await.expect("connects");
        assert_eq!(ask(&mut stream).await, Some(7));
        proxy.reset();
        let error = stream.read(&mut [0; 1]).await.expect_err("it is reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        let mut stream = connect().await.expect("new ones pass");
        assert_eq!(ask(&mut stream).await, Some(7));
        proxy.lose();
        assert_eq!(ask(&mut stream).await, None);
        let mut byte = [0; 1];
        let waited = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut byte));
        assert!(waited.await.is_err(), "nothing is heard");
        assert_eq!(ask(&mut connect().await.expect("new ones pass")).await, Some(7));
    }

    #[tokio::test]
    async fn a_redirected_proxy_leads_new_connections_elsewhere() {
        let (one, mut two) =
            (Redis::start().await.expect("starts"), Redis::start().await.expect("starts"));
        let proxy = Proxy::start(&one.url()).await.expect("starts");
        let connect = async || TcpStream::connect(("127.0.0.1", proxy.port())).await;
        let mut stream = connect().await.expect("connects");
        assert_eq!(ask(&mut stream).await, Some(7));
        proxy.redirect(&two.url());
        two.kill().await.expect("dies");
        assert_eq!(ask(&mut stream).await, Some(7), "those that stand stay");
        assert_eq!(ask(&mut connect().await.expect("the proxy accepts")).await, None);
    }
}
