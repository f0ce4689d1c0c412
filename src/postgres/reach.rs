//! Which server, of those named: the hosts in turn, each with and without TLS as `sslmode` says.
//!
//! As in libpq, a server that refuses the user ends the search: others are for servers that don't answer, and for those that
//! don't do what `target_session_attrs` asks for.

use std::pin::Pin;
use std::task::{Context, Poll};

use rand::seq::SliceRandom;
use tokio_postgres::config::{self, SslMode as ClientSslMode, SslNegotiation as ClientSslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, SimpleQueryMessage};

use super::dial::{Address, Dialer, Encryption, Trouble};
use super::direct::{Handover, Line, WeakLine};
use super::settings::{ChannelBinding, Host, SessionAttributes};
use super::wire::Wire;

/// The half of a connection that does the talking.
pub(super) struct Link {
    connection: tokio_postgres::Connection<Line, Line>,
    line: WeakLine,
}

impl Link {
    /// The stream, for who takes it over.
    pub(super) fn line(&self) -> WeakLine {
        self.line.clone()
    }

    /// What the server says aside.
    pub(super) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>> {
        self.connection.poll_message(cx)
    }
}

impl Future for Link {
    type Output = Result<(), tokio_postgres::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.connection).poll(cx)
    }
}

/// Which of the hosts, and at which of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub host: usize,
    pub address: Address,
}

/// A way that has led to a server. All other connections of a run take it, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub spot: Spot,
    pub is_encrypted: bool,
}

/// Where to look.
#[derive(Clone, Debug)]
pub(super) enum Search {
    Everywhere,
    At(Spot),
    Along(Route),
}

impl Dialer {
    /// Finds a server, and logs in to a database there.
    pub(super) async fn reach(
        &self,
        search: &Search,
        dbname: &str,
        name: &str,
    ) -> Result<(Client, Link, Route), Trouble> {
        let session = Session { dbname, name };
        let hosts = &self.settings.hosts;
        let mut order: Vec<usize> = (0..hosts.len()).collect();
        if self.settings.is_balanced {
            order.shuffle(&mut rand::rng());
        }
        let wanted = match (search, self.settings.session) {
            (Search::Everywhere, wanted) => wanted,
            // it was asked when it was found
            _ => SessionAttributes::Any,
        };
        let mut troubles = Vec::new();
        let wishes: &[SessionAttributes] = match wanted {
            SessionAttributes::PreferStandby => &[SessionAttributes::Standby, SessionAttributes::Any],
            _ => &[wanted],
        };
        for &wish in wishes {
            troubles.clear();
            for &host in &order {
                let (only, encryption) = match search {
                    Search::Everywhere => (None, None),
                    Search::At(spot) => (Some(spot), None),
                    Search::Along(route) => (Some(&route.spot), Some(route.is_encrypted)),
                };
                if only.is_some_and(|spot| spot.host != host) {
                    continue;
                }
                let addresses = match only {
                    Some(spot) => Ok(vec![spot.address.clone()]),
                    None => self.addresses(&hosts[host]).await,
                };
                let mut addresses = match addresses {
                    Ok(addresses) => addresses,
                    Err(trouble) => {
                        troubles.push((host, trouble));
                        continue;
                    }
                };
                if self.settings.is_balanced {
                    addresses.shuffle(&mut rand::rng());
                }
                for address in addresses {
                    let spot = Spot { host, address };
                    let login = self.log_in(&spot, encryption, &session).await;
                    match self.suits(login, wish).await {
                        Ok(found) => return Ok(found),
                        Err(trouble) if is_of_this_host(&trouble) => troubles.push((host, trouble)),
                        Err(trouble) => return Err(trouble),
                    }
                }
            }
        }
        Err(self.all(troubles))
    }

    /// Logs in at one address, in the ways that `sslmode` allows.
    async fn log_in(
        &self,
        spot: &Spot,
        is_encrypted: Option<bool>,
        session: &Session<'_>,
    ) -> Result<(Client, Link, Route), Trouble> {
        let mut ways = match is_encrypted {
            None => self.encryptions(&spot.address),
            Some(true) => &[Encryption::Yes],
            Some(false) => &[Encryption::No],
        };
        loop {
            let (way, others) = match ways {
                [] => return Err(Trouble::Tls("there is no way to encrypt, and none not to".into())),
                [way, others @ ..] => (*way, others),
            };
            let mut was_encrypted = way == Encryption::Yes;
            match self.try_one(spot, way, session, &mut was_encrypted).await {
                Err(trouble) if !others.is_empty() && is_of_this_way(&trouble, way, was_encrypted) => ways = others,
                result => return result,
            }
        }
    }

    async fn try_one(
        &self,
        spot: &Spot,
        way: Encryption,
        session: &Session<'_>,
        was_encrypted: &mut bool,
    ) -> Result<(Client, Link, Route), Trouble> {
        let host = &self.settings.hosts[spot.host];
        let wire = self.dial_session(host, &spot.address, way).await?;
        let route = Route {
            spot: spot.clone(),
            is_encrypted: wire.is_encrypted(),
        };
        *was_encrypted = route.is_encrypted;
        let line = Line::new(wire);
        let weak = line.downgrade();
        let config = self.config(host, session);
        let limit = self.settings.startup_timeout;
        let greeted = tokio::time::timeout(limit, config.connect_raw(line, Handover)).await;
        let greeted = greeted.map_err(|_| {
            let limit = humantime::format_duration(limit);
            Trouble::Unreachable(format!(
                "the server took the connection, but did not let it in within {limit}"
            ))
        })?;
        let (client, connection) = greeted.map_err(Trouble::Server)?;
        let link = Link { connection, line: weak };
        Ok((client, link, route))
    }

    fn config(&self, host: &Host, session: &Session<'_>) -> Config {
        let mut config = Config::new();
        config.user(&self.settings.user).dbname(session.dbname);
        config.application_name(session.name);
        if let Some(password) = &host.password {
            config.password(password.reveal());
        }
        if let Some(options) = &self.settings.options {
            config.options(options);
        }
        config.channel_binding(match self.settings.authentication.channel_binding {
            ChannelBinding::Disable => config::ChannelBinding::Disable,
            ChannelBinding::Prefer => config::ChannelBinding::Prefer,
            ChannelBinding::Require => config::ChannelBinding::Require,
        });
        // the wire that is handed over counts as TLS, whatever it is
        config
            .ssl_mode(ClientSslMode::Require)
            .ssl_negotiation(ClientSslNegotiation::Direct);
        config
    }

    /// Whether a server does what is asked for.
    async fn suits(
        &self,
        login: Result<(Client, Link, Route), Trouble>,
        wish: SessionAttributes,
    ) -> Result<(Client, Link, Route), Trouble> {
        let (client, mut link, route) = login?;
        if wish == SessionAttributes::Any {
            return Ok((client, link, route));
        }
        let asked = client
            .simple_query("select pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')");
        let answer = tokio::time::timeout(self.settings.startup_timeout, async {
            tokio::select! {
                answer = asked => answer.map_err(Trouble::Server),
                ended = &mut link => Err(match ended {
                    Err(error) => Trouble::Server(error),
                    Ok(()) => Trouble::Unreachable("the server closed the connection".into()),
                }),
            }
        });
        let answer = answer
            .await
            .map_err(|_| Trouble::Unreachable("the server does not answer".into()))??;
        let is = |i: usize, yes: &str| {
            answer
                .iter()
                .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(i) == Some(yes)))
        };
        let (is_standby, is_read_only) = (is(0, "t"), is(1, "on"));
        match unfit(wish, is_standby, is_read_only) {
            None => Ok((client, link, route)),
            Some(why) => Err(Trouble::Unfit(why.into())),
        }
    }

    fn all(&self, mut troubles: Vec<(usize, Trouble)>) -> Trouble {
        if troubles.len() == 1
            && let Some((_, trouble)) = troubles.pop()
        {
            return trouble;
        }
        let told = troubles.iter().map(|(host, trouble)| {
            let host = &self.settings.hosts[*host];
            format!("{}:{}: {}", host.place.name(), host.port, trouble.why())
        });
        Trouble::Unreachable(told.collect::<Vec<_>>().join("; "))
    }

    /// A connection of the same kind to the same place, on which nothing has been said.
    pub(super) async fn again(&self, route: &Route) -> Result<Wire, Trouble> {
        let host = &self.settings.hosts[route.spot.host];
        let way = if route.is_encrypted {
            Encryption::Yes
        } else {
            Encryption::No
        };
        self.dial(host, &route.spot.address, way).await
    }
}

/// What a login is for.
struct Session<'a> {
    dbname: &'a str,
    name: &'a str,
}

/// Why a server does not do.
fn unfit(wish: SessionAttributes, is_standby: bool, is_read_only: bool) -> Option<&'static str> {
    match wish {
        SessionAttributes::ReadWrite if is_standby || is_read_only => Some("the session is read-only"),
        SessionAttributes::ReadOnly if !is_standby && !is_read_only => Some("the session is not read-only"),
        SessionAttributes::Primary if is_standby => Some("the server is a standby"),
        SessionAttributes::Standby if !is_standby => Some("the server is not a standby"),
        _ => None,
    }
}

/// Whether another host may do better.
fn is_of_this_host(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Unreachable(_) | Trouble::Unfit(_) => true,
        // starting, stopping, or a standby that lets nobody in
        Trouble::Server(error) => error.code() == Some(&SqlState::CANNOT_CONNECT_NOW),
        Trouble::Tls(_) | Trouble::Settings(_) => false,
    }
}

/// Whether another way to the same host may do better: a `pg_hba.conf` that wants TLS or none, or a failed handshake.
fn is_of_this_way(trouble: &Trouble, way: Encryption, was_encrypted: bool) -> bool {
    match trouble {
        Trouble::Tls(_) | Trouble::Settings(_) => way == Encryption::IfOffered,
        Trouble::Server(error) => {
            let refused = error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
            refused && (was_encrypted || way == Encryption::No)
        }
        Trouble::Unreachable(_) | Trouble::Unfit(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_suits_as_libpq_has_it() {
        use SessionAttributes::*;
        let suits = |wish| {
            // a primary, one that is read-only by its settings, a standby
            [(false, false), (false, true), (true, true)]
                .map(|(standby, read_only)| unfit(wish, standby, read_only).is_none())
        };
        assert_eq!(suits(Any), [true, true, true]);
        assert_eq!(suits(ReadWrite), [true, false, false]);
        assert_eq!(suits(ReadOnly), [false, true, true]);
        assert_eq!(suits(Primary), [true, true, false]);
        assert_eq!(suits(Standby), [false, false, true]);
    }

    #[test]
    fn a_failed_handshake_is_got_over_by_prefer_only() {
        let failed = Trouble::Tls(String::new());
        assert!(is_of_this_way(&failed, Encryption::IfOffered, false));
        assert!(!is_of_this_way(&failed, Encryption::Yes, true));
        assert!(!is_of_this_host(&failed));
        assert!(is_of_this_host(&Trouble::Unreachable(String::new())));
    }
}
