//! Values as types, with defaults for what nobody gave.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host as ClientHost;

use super::hosts::{self, Host, Place};
use super::world::World;
use super::{Given, Secret};

/// Longer than a slow network needs, shorter than a person's patience.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A busy server or pooler takes its time; it is known to be there.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);

/// How a database is reached.
#[derive(Clone, Debug)]
pub(in crate::postgres) struct Settings {
    /// Tried in this order; there is at least one.
    pub hosts: Vec<Host>,
    /// They are tried in a random order instead.
    pub is_balanced: bool,
    pub session: SessionAttributes,
    pub user: String,
    pub dbname: String,
    /// For the session, as on the server's command line.
    pub options: Option<String>,
    /// For looking up a host, for each of its addresses, and for TLS there.
    pub connect_timeout: Duration,
    /// From there until the server has let the client in.
    pub startup_timeout: Duration,
    pub keepalive: Option<Keepalive>,
    pub tcp_user_timeout: Option<Duration>,
    pub tls: TlsSettings,
    pub authentication: Authentication,
    /// The operating system's user that a server behind a socket must run as.
    pub server_user: Option<String>,
    /// What the user should know although it is no error.
    pub warnings: Vec<String>,
}

/// Of a TCP connection on which nothing happens. What is missing is left to the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::postgres) struct Keepalive {
    pub idle: Option<Duration>,
    pub interval: Option<Duration>,
    pub count: Option<u32>,
}

/// How the client proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct Authentication {
    pub channel_binding: ChannelBinding,
    /// Methods that the server may ask for, if not all of them: `scram-sha-256`, `!md5`.
    pub methods: Vec<String>,
}

#[derive(Clone, Debug)]
pub(in crate::postgres) struct TlsSettings {
    pub mode: SslMode,
    pub negotiation: SslNegotiation,
    pub roots: Roots,
    pub crl: Option<PathBuf>,
    /// The client's certificate, and its key; `None` where there is none by default.
    pub certificate: Option<(PathBuf, PathBuf)>,
    pub has_sni: bool,
    pub min: TlsVersion,
    pub max: TlsVersion,
}

/// What a server's certificate is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum Roots {
    /// The certificates of a file.
    File(PathBuf),
    /// Those that the system trusts.
    System,
    /// Nothing: there is no file.
    Missing,
}

/// Finds a word's value, or says what was expected.
fn choice<T: Copy>(given: &Given, name: &str, words: &[(&str, T)], default: T) -> Result<T, String> {
    let Some(value) = given.meant(name) else {
        return Ok(default);
    };
    let found = words.iter().find(|(word, _)| *word == value);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("{}: expected one of {}", given.origin(name), words.join(", "))
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::postgres) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum SslNegotiation {
    /// The server is asked first.
    Postgres,
    Direct,
}

const SSL_NEGOTIATIONS: &[(&str, SslNegotiation)] = &[
    ("postgres", SslNegotiation::Postgres),
    ("direct", SslNegotiation::Direct),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

const CHANNEL_BINDINGS: &[(&str, ChannelBinding)] = &[
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];

/// What a session must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum SessionAttributes {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    /// A standby, or anything when there is none.
    PreferStandby,
}

const SESSIONS: &[(&str, SessionAttributes)] = &[
    ("any", SessionAttributes::Any),
    ("read-write", SessionAttributes::ReadWrite),
    ("read-only", SessionAttributes::ReadOnly),
    ("primary", SessionAttributes::Primary),
    ("standby", SessionAttributes::Standby),
    ("prefer-standby", SessionAttributes::PreferStandby),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::postgres) enum TlsVersion {
    Tls12,
    Tls13,
}

/// What is older cannot be had, and as a minimum it is met.
const TLS_MIN: &[(&str, TlsVersion)] = &[
    ("TLSv1", TlsVersion::Tls12),
    ("TLSv1.1", TlsVersion::Tls12),
    ("TLSv1.2", TlsVersion::Tls12),
    ("TLSv1.3", TlsVersion::Tls13),
];

const TLS_MAX: &[(&str, TlsVersion)] = &[("TLSv1.2", TlsVersion::Tls12), ("TLSv1.3", TlsVersion::Tls13)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum CertificateMode {
    Disable,
    Allow,
}

const CERTIFICATE_MODES: &[(&str, CertificateMode)] =
    &[("disable", CertificateMode::Disable), ("allow", CertificateMode::Allow)];

const METHODS: [&str; 7] = ["password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none"];

impl Settings {
    /// Of a server of our own, with a socket and nothing to hide.
    pub(in crate::postgres) fn of_config(config: &Config) -> Settings {
        let ports = config.get_ports();
        let host = |(i, host): (usize, &ClientHost)| Host {
            place: match host {
                ClientHost::Tcp(name) => Place::Name(name.clone()),
                ClientHost::Unix(dir) => Place::Socket(dir.clone()),
            },
            port: ports.get(i).or(ports.first()).copied().unwrap_or(hosts::PORT),
            password: config
                .get_password()
                .map(|password| Secret::new(String::from_utf8_lossy(password))),
            password_from: None,
        };
        let user = config.get_user().unwrap_or_default().to_string();
        Settings {
            hosts: config.get_hosts().iter().enumerate().map(host).collect(),
            is_balanced: false,
            session: SessionAttributes::Any,
            dbname: config.get_dbname().unwrap_or(&user).to_string(),
            user,
            options: config.get_options().map(String::from),
            connect_timeout: CONNECT_TIMEOUT,
            startup_timeout: STARTUP_TIMEOUT,
            keepalive: None,
            tcp_user_timeout: None,
            tls: TlsSettings::none(),
            authentication: Authentication {
                channel_binding: ChannelBinding::Prefer,
                methods: Vec::new(),
            },
            server_user: None,
            warnings: Vec::new(),
        }
    }
}

impl TlsSettings {
    fn none() -> TlsSettings {
        TlsSettings {
            mode: SslMode::Disable,
            negotiation: SslNegotiation::Postgres,
            roots: Roots::Missing,
            crl: None,
            certificate: None,
            has_sni: true,
            min: TlsVersion::Tls12,
            max: TlsVersion::Tls13,
        }
    }
}

pub(super) fn settings(given: &Given, world: &World) -> Result<Settings, String> {
    let user = match given.meant("user").map(String::from).or_else(|| world.user.clone()) {
        Some(user) => user,
        None => {
            return Err("nobody says as which user to connect, and the system has no name for you: set PGUSER".into());
        }
    };
    let dbname = given.meant("dbname").unwrap_or(&user).to_string();
    let mut warnings = Vec::new();
    let hosts = hosts::hosts(given, world, &user, &dbname, &mut warnings)?;
    let tls = tls(given, world, &hosts)?;
    let has_keepalives = number(given, "keepalives")?.unwrap_or(1) != 0;
    let seconds = |name| Ok::<_, String>(number(given, name)?.filter(|n| *n > 0).map(Duration::from_secs));
    let keepalive = Keepalive {
        idle: seconds("keepalives_idle")?,
        interval: seconds("keepalives_interval")?,
        count: number(given, "keepalives_count")?
            .filter(|n| *n > 0)
            .and_then(|n| u32::try_from(n).ok()),
    };
    Ok(Settings {
        is_balanced: choice(
            given,
            "load_balance_hosts",
            &[("disable", false), ("random", true)],
            false,
        )?,
        session: choice(given, "target_session_attrs", SESSIONS, SessionAttributes::Any)?,
        options: options(given),
        // 0 is no limit for libpq; here every wait has one
        connect_timeout: seconds("connect_timeout")?.unwrap_or(CONNECT_TIMEOUT),
        startup_timeout: seconds("connect_timeout")?.unwrap_or(STARTUP_TIMEOUT),
        keepalive: has_keepalives.then_some(keepalive),
        tcp_user_timeout: number(given, "tcp_user_timeout")?
            .filter(|n| *n > 0)
            .map(Duration::from_millis),
        authentication: Authentication {
            channel_binding: choice(given, "channel_binding", CHANNEL_BINDINGS, ChannelBinding::Prefer)?,
            methods: methods(given)?,
        },
        server_user: given.meant("requirepeer").map(String::from),
        hosts,
        tls,
        user,
        dbname,
        warnings,
    })
}

/// A whole number; below zero it is 0, which is no limit in most places.
fn number(given: &Given, name: &str) -> Result<Option<u64>, String> {
    let Some(value) = given.meant(name) else {
        return Ok(None);
    };
    match value.trim().parse::<i32>() {
        Ok(n) => Ok(Some(u64::try_from(n).unwrap_or(0))),
        Err(_) => Err(format!("{}: expected a whole number", given.origin(name))),
    }
}

fn methods(given: &Given) -> Result<Vec<String>, String> {
    let Some(list) = given.meant("require_auth") else {
        return Ok(Vec::new());
    };
    let methods: Vec<String> = list.split(',').map(|m| m.trim().to_string()).collect();
    let is_known = |m: &String| METHODS.contains(&m.strip_prefix('!').unwrap_or(m));
    if !methods.iter().all(is_known) {
        return Err(format!(
            "{}: expected some of {}, all of them with a `!` or none",
            given.origin("require_auth"),
            METHODS.join(", ")
        ));
    }
    let refused = methods.iter().filter(|m| m.starts_with('!')).count();
    match refused == 0 || refused == methods.len() {
        true => Ok(methods),
        false => Err(format!(
            "{}: methods with and without a `!` cannot be mixed",
            given.origin("require_auth")
        )),
    }
}

/// Settings that libpq sends by their names go with the others: the client library sends no more than these.
fn options(given: &Given) -> Option<String> {
    let mut options: Vec<String> = Vec::new();
    for (parameter, setting) in [("datestyle", "datestyle"), ("timezone", "timezone"), ("geqo", "geqo")] {
        if let Some(value) = given.meant(parameter).filter(|value| *value != "default") {
            let value = value.replace('\\', r"\\").replace(' ', r"\ ");
            options.push(format!("-c {setting}={value}"));
        }
    }
    // the later of two counts, and these are nearer to the user's mind
    options.extend(given.meant("options").map(String::from));
    (!options.is_empty()).then(|| options.join(" "))
}

fn tls(given: &Given, world: &World, hosts: &[Host]) -> Result<TlsSettings, String> {
    let is_system = given.meant("sslrootcert") == Some("system");
    let default = if is_system {
        SslMode::VerifyFull
    } else {
        SslMode::Prefer
    };
    let mode = choice(given, "sslmode", SSL_MODES, default)?;
    if is_system && mode < SslMode::VerifyFull {
        return Err(format!(
            "{}: with sslrootcert=system only verify-full is safe: anybody can get a certificate that the system trusts",
            given.origin("sslmode")
        ));
    }
    let negotiation = choice(given, "sslnegotiation", SSL_NEGOTIATIONS, SslNegotiation::Postgres)?;
    if negotiation == SslNegotiation::Direct && mode < SslMode::Require {
        return Err(format!(
            "{}: direct needs sslmode=require or stronger",
            given.origin("sslnegotiation")
        ));
    }
    let roots = roots(given, world, mode, is_system)?;
    let nameless = |host: &&Host| matches!(host.place, Place::Address(_, None));
    if mode == SslMode::VerifyFull
        && let Some(host) = hosts.iter().find(nameless)
    {
        return Err(format!(
            "{}: verify-full needs a host name to compare the certificate of {} with: give host beside hostaddr",
            given.origin("sslmode"),
            host.place.name()
        ));
    }
    let (min, max) = (
        choice(given, "ssl_min_protocol_version", TLS_MIN, TlsVersion::Tls12)?,
        choice(given, "ssl_max_protocol_version", TLS_MAX, TlsVersion::Tls13)?,
    );
    if min > max {
        return Err(format!(
            "{}: it is above the maximum",
            given.origin("ssl_min_protocol_version")
        ));
    }
    let file = |name: &str, home: &str| match given.meant(name) {
        Some(path) => Some((PathBuf::from(path), true)),
        None => world.at_home(home).map(|path| (path, false)),
    };
    let certificate = file("sslcert", ".postgresql/postgresql.crt");
    let certificate = certificate.filter(|(path, is_named)| *is_named || path.exists());
    let key = file("sslkey", ".postgresql/postgresql.key");
    let certificate = certificate
        .zip(key)
        .map(|((certificate, _), (key, _))| (certificate, key));
    let crl = file("sslcrl", ".postgresql/root.crl");
    let wants_certificate = choice(given, "sslcertmode", CERTIFICATE_MODES, CertificateMode::Allow)?;
    Ok(TlsSettings {
        mode,
        negotiation,
        roots,
        crl: crl
            .filter(|(path, is_named)| *is_named || path.exists())
            .map(|(path, _)| path),
        certificate: certificate.filter(|_| wants_certificate == CertificateMode::Allow),
        has_sni: number(given, "sslsni")?.unwrap_or(1) != 0,
        min,
        max,
    })
}

fn roots(given: &Given, world: &World, mode: SslMode, is_system: bool) -> Result<Roots, String> {
    if is_system {
        return Ok(Roots::System);
    }
    let named = given.meant("sslrootcert").map(PathBuf::from);
    let is_named = named.is_some();
    // without a home there is no such file, wherever it would be
    let path = named.or_else(|| world.at_home(".postgresql/root.crt"));
    let path = path.unwrap_or_else(|| "~/.postgresql/root.crt".into());
    match path.exists() {
        true => Ok(Roots::File(path)),
        // libpq goes on without checking the certificate unless sslmode says verify; who names a file wants it checked
        false if is_named && mode >= SslMode::Require => Err(format!(
            "{}: the file {} does not exist",
            given.origin("sslrootcert"),
            path.display()
        )),
        false if mode >= SslMode::VerifyCa => Err(format!(
            "{}: there is nothing to check the server's certificate against: {} does not exist; give sslrootcert, \
             a file of root certificates or `system`",
            given.origin("sslmode"),
            path.display()
        )),
        false => Ok(Roots::Missing),
    }
}
