//! One connection to one address, up to the point where PostgreSQL's protocol begins.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use nix::unistd::{Uid, User};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};

use super::auth::Guard;
use super::settings::{Host, Place, Settings, SslMode, SslNegotiation, socket_name};
use super::socket::Socket;
use super::tls::Tls;
use super::wire::{Carrier, Wire};

/// Where a server listens, looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Socket(PathBuf),
    Tcp(SocketAddr),
}

/// Whether what is said is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    No,
    IfOffered,
    Yes,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody answers there; elsewhere somebody may.
    Unreachable(String),
    /// The server is not one that does what was asked for; another one may.
    Unfit(String),
    /// No encryption, or not with this server.
    Tls(String),
    /// A certificate or a key of ours is wrong.
    Settings(String),
    /// The server said no, or the connection ended while it was being made.
    Server(tokio_postgres::Error),
}

/// Makes connections as the settings say.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) settings: Settings,
    /// Read when it is first needed: over a socket it never is.
    tls: OnceLock<Result<Tls, String>>,
}

impl Dialer {
    pub(super) fn new(settings: Settings) -> Dialer {
        Dialer {
            settings,
            tls: OnceLock::new(),
        }
    }

    /// The ways to try, in their order: libpq's.
    pub(super) fn encryptions(&self, address: &Address) -> &'static [Encryption] {
        match (address, self.settings.tls.mode) {
            (Address::Socket(_), _) | (_, SslMode::Disable) => &[Encryption::No],
            (_, SslMode::Allow) => &[Encryption::No, Encryption::Yes],
            (_, SslMode::Prefer) => &[Encryption::IfOffered, Encryption::No],
            _ => &[Encryption::Yes],
        }
    }

    /// Where a host is.
    pub(super) async fn addresses(&self, host: &Host) -> Result<Vec<Address>, Trouble> {
        let name = match &host.place {
            Place::Socket(dir) => return Ok(vec![Address::Socket(dir.join(socket_name(host.port)))]),
            Place::Address(address, _) => return Ok(vec![Address::Tcp((*address, host.port).into())]),
            Place::Name(name) => name,
        };
        let looked_up = within(self.settings.connect_timeout, lookup_host((name.as_str(), host.port)));
        let found: Vec<Address> = looked_up
            .await?
            .map_err(|error| Trouble::Unreachable(error.to_string()))?
            .map(Address::Tcp)
            .collect();
        match found.is_empty() {
            true => Err(Trouble::Unreachable("the name has no address".into())),
            false => Ok(found),
        }
    }

    /// A connection, encrypted if it should be, within the time limit.
    pub(super) async fn dial(&self, host: &Host, address: &Address, encryption: Encryption) -> Result<Wire, Trouble> {
        let carrier = within(self.settings.connect_timeout, self.carrier(host, address, encryption)).await??;
        Ok(Wire { carrier, guard: None })
    }

    /// The same for a session, whose authentication is watched.
    pub(super) async fn dial_session(
        &self,
        host: &Host,
        address: &Address,
        encryption: Encryption,
    ) -> Result<Wire, Trouble> {
        let guard = Guard::of(&self.settings.authentication.methods).map(Box::new);
        Ok(Wire {
            guard,
            ..self.dial(host, address, encryption).await?
        })
    }

    async fn carrier(&self, host: &Host, address: &Address, encryption: Encryption) -> Result<Carrier, Trouble> {
        let mut stream = match address {
            Address::Socket(path) => return self.socket(path).await.map(Carrier::Socket),
            Address::Tcp(address) => TcpStream::connect(address).await.map_err(unreachable)?,
        };
        self.tune(&stream).map_err(unreachable)?;
        if encryption == Encryption::No {
            return Ok(Carrier::Tcp(stream));
        }
        // before the server is asked: what is wrong with our own files is no matter of the server's
        let tls = self.tls()?;
        let is_offered = match self.settings.tls.negotiation {
            SslNegotiation::Direct => true,
            SslNegotiation::Postgres => offers_tls(&mut stream).await?,
        };
        match (is_offered, encryption) {
            (true, _) => {
                let name = host.place.name();
                let stream = tls.handshake(stream, &name).await.map_err(Trouble::Tls)?;
                Ok(Carrier::Tls(Box::new(stream)))
            }
            (false, Encryption::IfOffered) => Ok(Carrier::Tcp(stream)),
            (false, _) => Err(Trouble::Tls(
                "the server does not support TLS, and sslmode demands it".into(),
            )),
        }
    }

    fn tls(&self) -> Result<&Tls, Trouble> {
        let tls = self.tls.get_or_init(|| Tls::load(&self.settings.tls));
        tls.as_ref().map_err(|why| Trouble::Settings(why.clone()))
    }

    async fn socket(&self, path: &std::path::Path) -> Result<Socket, Trouble> {
        let (socket, owner) = Socket::connect(&on_system(path)).await.map_err(unreachable)?;
        let Some(wanted) = &self.settings.server_user else {
            return Ok(socket);
        };
        let owner = User::from_uid(Uid::from_raw(owner)).ok().flatten();
        match owner {
            Some(owner) if owner.name == *wanted => Ok(socket),
            Some(owner) => Err(Trouble::Unfit(format!(
                "the server runs as {}, and requirepeer demands another user",
                owner.name
            ))),
            None => Err(Trouble::Unfit(
                "the server runs as a user without a name, against requirepeer".into(),
            )),
        }
    }

    fn tune(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        if let Some(wanted) = &self.settings.keepalive {
            let mut keepalive = TcpKeepalive::new();
            if let Some(idle) = wanted.idle {
                keepalive = keepalive.with_time(idle);
            }
            if let Some(interval) = wanted.interval {
                keepalive = keepalive.with_interval(interval);
            }
            if let Some(count) = wanted.count {
                keepalive = keepalive.with_retries(count);
            }
            socket.set_keepalive(true)?;
            if wanted.idle.is_some() || wanted.interval.is_some() || wanted.count.is_some() {
                socket.set_tcp_keepalive(&keepalive)?;
            }
        }
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(self.settings.tcp_user_timeout)?;
        Ok(())
    }
}

/// A path for the system: behind an `@` is a name in Linux' abstract namespace, which the system marks by a zero byte.
fn on_system(path: &std::path::Path) -> PathBuf {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => OsString::from_vec([&[0], name].concat()).into(),
        None => path.into(),
    }
}

fn unreachable(error: io::Error) -> Trouble {
    Trouble::Unreachable(error.to_string())
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, Trouble> {
    let done = tokio::time::timeout(limit, work).await;
    done.map_err(|_| Trouble::Unreachable(format!("no answer within {}", humantime::format_duration(limit))))
}

/// Asks for TLS (SSLRequest). One byte is read and no more: what somebody on the way may have put behind it is then part of the
/// handshake, which fails.
async fn offers_tls(stream: &mut TcpStream) -> Result<bool, Trouble> {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    stream.write_all(&SSL_REQUEST).await.map_err(unreachable)?;
    match stream.read_u8().await.map_err(unreachable)? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(Trouble::Unreachable(
            "what answers there is no PostgreSQL, or it is in trouble".into(),
        )),
    }
}
