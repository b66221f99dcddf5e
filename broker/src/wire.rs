//! One connection to RabbitMQ, made within a bound and cut for certain.
//!
//! lapin runs each connection on a thread of its own that ends with its socket. Whoever gives up
//! a connection here first shuts the socket down: a handshake that never ends leaves no thread
//! behind, and nothing lapin sends while its handles are dropped reaches the server any more. The
//! latter matters for consumers: a dropped `lapin::Consumer` sends `basic.cancel`, and a cancelled
//! consumer with unacknowledged messages lets a barrier overtake them.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::Stream;
use lapin::options::ConfirmSelectOptions;
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, Event};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;

use crate::fault::{Fault, within};
use crate::greeting::{self, Version};

/// How long the TCP (and TLS) connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long the AMQP handshake may take on top.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// How long one round trip over an open connection may take.
pub(crate) const STEP_MAX: Duration = Duration::from_secs(5);
/// How long saying good-bye may take.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// Seconds of silence after which either side gives the other up (twice this, in practice).
const HEARTBEAT_S: u16 = 10;
/// The library keeps 64 frames of buffer per connection, so that RabbitMQ's default of 128 KiB
/// would cost 8 MiB each. A full envelope is two of these.
const FRAME_MAX_BYTES: u32 = 16 * 1024;

/// Makes connections for one purpose, and remembers which RabbitMQ it talks to.
pub(crate) struct Dialer {
    url: SecretString,
    name: String,
    version: OnceCell<Version>,
}

impl Dialer {
    pub(crate) fn new(url: &SecretString, name: impl Into<String>) -> Self {
        Self { url: url.clone(), name: name.into(), version: OnceCell::new() }
    }

    /// Names the server without credentials: host and port.
    pub(crate) fn server(&self) -> String {
        self.uri().map_or_else(
            |_| "a malformed URL".to_owned(),
            |uri| format!("{}:{}", uri.authority.host, uri.authority.port),
        )
    }

    /// Connects.
    pub(crate) async fn dial(&self) -> Result<Wire, Fault> {
        let socket = Socket::default();
        let seen = socket.clone();
        let runtime = lapin::runtime::default_runtime()?;
        let reactor = runtime.clone();
        let connect = async move |uri: AMQPUri, _| {
            let server = (uri.authority.host.clone(), uri.authority.port);
            let open = async {
                let tcp =
                    AsyncTcpStream::connect(&reactor, reactor.to_socket_addrs(server)).await?;
                if let AsyncTcpStream::Plain(plain) = &tcp {
                    seen.keep(plain.get_ref().as_fd().try_clone_to_owned()?.into());
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(tcp),
                    AMQPScheme::AMQPS => {
                        tcp.into_tls(&uri.authority.host, OwnedTLSConfig::default().as_ref()).await
                    }
                }
            };
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            Ok(tokio::time::timeout(CONNECT_MAX, open).await.map_err(late)??)
        };
        let properties =
            ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let guard = CutOnDrop(socket);
        let connecting = Connection::connector(self.uri()?, runtime, connect, properties);
        let connection = within("connecting", CONNECT_MAX + HANDSHAKE_MAX, connecting).await?;
        Ok(Wire { guard, connection })
    }

    /// Returns the server's version, asking once in this dialer's life.
    pub(crate) async fn version(&self) -> Result<Version, Fault> {
        let ask = async || {
            let uri = self.uri()?;
            let runtime = lapin::runtime::default_runtime()?;
            let greet = async { greeting::read_version(uri.connect_async(&runtime).await?).await };
            tokio::time::timeout(HANDSHAKE_MAX, greet)
                .await
                .map_err(|_| Fault::Late("the greeting"))?
        };
        self.version.get_or_try_init(ask).await.copied()
    }

    fn uri(&self) -> Result<AMQPUri, Fault> {
        let mut uri: AMQPUri = self.url.expose_secret().parse().map_err(|_| Fault::Url)?;
        uri.query.heartbeat = Some(HEARTBEAT_S);
        uri.query.frame_max.get_or_insert(FRAME_MAX_BYTES);
        Ok(uri)
    }
}

/// An open connection. Dropping it cuts the socket before anything else.
pub(crate) struct Wire {
    // First, so that it is dropped first.
    guard: CutOnDrop,
    connection: Connection,
}

impl Wire {
    /// Opens a channel.
    pub(crate) async fn channel(&self) -> Result<Channel, Fault> {
        within("opening a channel", STEP_MAX, self.connection.create_channel()).await
    }

    /// Opens a channel whose publishes are confirmed.
    pub(crate) async fn confirming_channel(&self) -> Result<Channel, Fault> {
        let channel = self.channel().await?;
        let select = channel.confirm_select(ConfirmSelectOptions::default());
        within("asking for confirms", STEP_MAX, select).await?;
        Ok(channel)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Returns what happens to the connection, as it happens.
    pub(crate) fn events(&self) -> impl Stream<Item = Event> + Send + 'static {
        self.connection.events_listener()
    }

    /// Says good-bye if the server listens, within a bound, and cuts the connection.
    pub(crate) async fn close(self) {
        self.say_goodbye().await;
    }

    /// Says good-bye without giving up the handle: for connections whose owners are many.
    pub(crate) async fn say_goodbye(&self) {
        // A refused or late good-bye is none the worse: the cut follows.
        let _ = within("closing", CLOSE_MAX, self.connection.close(200, "OK".into())).await;
        self.guard.0.cut();
    }
}

/// The socket below a connection, once it is there.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Option<TcpStream>>>);

impl Socket {
    fn keep(&self, stream: TcpStream) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    fn cut(&self) {
        if let Some(stream) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // Fails only where the other side was faster.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

struct CutOnDrop(Socket);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}
