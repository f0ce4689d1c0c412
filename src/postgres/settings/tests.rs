//! Precedence, and values as types, each in a world of its own.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;

use super::finish::{Roots, SessionAttributes, Settings, SslMode, TlsVersion};
use super::hosts::Place;
use super::world::World;
use super::{Asked, Secret};

/// A home and a system directory that are empty at first.
struct Site {
    dir: TempDir,
    world: World,
}

impl Site {
    fn new(variables: &[(&str, &str)]) -> Site {
        let dir = tempfile::tempdir().unwrap();
        for name in ["home", "system", "sockets"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let variables = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let world = World {
            variables: variables.collect::<HashMap<_, _>>(),
            home: Some(dir.path().join("home")),
            user: Some("me".into()),
            system_directories: vec![dir.path().join("system")],
            socket_directories: vec![dir.path().join("sockets")],
        };
        Site { dir, world }
    }

    fn write(&self, name: &str, text: &str) -> &Site {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self
    }

    fn settings(&self, asked: &Asked) -> Result<Settings, String> {
        asked.settings_in(&self.world)
    }

    fn of(&self, url: &str) -> Result<Settings, String> {
        self.settings(&string(url))
    }
}

fn string(url: &str) -> Asked {
    Asked {
        string: Some(("--url", url.into())),
        ..Asked::default()
    }
}

/// `me@host:port/database` of all hosts, each with its password behind it.
fn told(settings: &Settings) -> String {
    let Settings {
        hosts, user, dbname, ..
    } = settings;
    let hosts = hosts.iter().map(|host| {
        let password = host
            .password
            .as_ref()
            .map_or(String::new(), |p| format!("={}", p.reveal()));
        format!("{}:{}{password}", host.place.name(), host.port)
    });
    format!("{user}@{}/{dbname}", hosts.collect::<Vec<_>>().join(","))
}

#[test]
fn the_nearer_value_wins() {
    let variables = [
        ("PGHOST", "env"),
        ("PGPORT", "1"),
        ("PGUSER", "env"),
        ("PGDATABASE", "env"),
        ("PGPASSWORD", "env"),
    ];
    let site = Site::new(&variables);
    site.write(
        "home/.pg_service.conf",
        "[s]\nhost=service\nport=2\nuser=service\nsslmode=disable\n",
    );
    let flags = Asked {
        host: Some("flag".into()),
        ..Asked::default()
    };
    let of = |asked: &Asked| told(&site.settings(asked).unwrap());
    assert_eq!(of(&Asked::default()), "env@env:1=env/env");
    assert_eq!(of(&flags), "env@flag:1=env/env");
    assert_eq!(of(&string("postgresql://u:p@url/d")), "u@url:1=p/d");
    assert_eq!(of(&string("postgresql:///d")), "env@env:1=env/d");
    assert_eq!(of(&string("service=s")), "service@service:2=env/env");
    assert_eq!(of(&string("service=s port=3")), "service@service:3=env/env");
    assert_eq!(of(&string("postgresql://url:4/?service=s")), "service@url:4=env/env");
    let both = Asked {
        string: Some(("--url", "host=url port=4 user=url".into())),
        dbname: Some("host=dbname dbname=d".into()),
        host: Some("flag".into()),
        port: Some("5".into()),
        ..Asked::default()
    };
    assert_eq!(
        of(&both),
        "url@dbname:5=env/d",
        "as in psql, -d with a connection string wins"
    );
    let named = Asked {
        dbname: Some("plain".into()),
        ..both
    };
    assert_eq!(of(&named), "url@flag:5=env/plain");
}

#[test]
fn nothing_said_is_the_default_socket_and_ones_own_name() {
    let site = Site::new(&[]);
    let settings = site.settings(&Asked::default()).unwrap();
    let sockets = site.dir.path().join("sockets");
    assert_eq!(settings.hosts[0].place, Place::Socket(sockets));
    assert!(told(&settings).starts_with("me@"), "{}", told(&settings));
    assert!(told(&settings).ends_with("/sockets:5432/me"), "{}", told(&settings));
    assert_eq!(settings.connect_timeout, Duration::from_secs(10));
    assert_eq!(settings.tls.mode, SslMode::Prefer);
    // empty values are the defaults, and still nearer than the environment's
    let site = Site::new(&[("PGHOST", "env"), ("PGPORT", ""), ("PGDATABASE", "")]);
    assert_eq!(
        told(&site.of("host='' user=''").unwrap()).rsplit('/').next(),
        Some("me")
    );
    let homeless = World {
        home: None,
        socket_directories: Vec::new(),
        ..site.world.clone()
    };
    assert_eq!(
        told(&string("user=u host=''").settings_in(&homeless).unwrap()),
        "u@localhost:5432/u"
    );
}

#[test]
fn several_hosts_have_ports_addresses_and_passwords_of_their_own() {
    let site = Site::new(&[]);
    site.write(
        "home/.pgpass",
        "a:1:*:*:first\nlocalhost:*:*:*:local\n*:*:shop:*:any\n10.0.0.1:*:*:*:by address\n",
    );
    let of = |url: &str| site.of(url).map(|settings| told(&settings));
    let sockets = site.dir.path().join("sockets").display().to_string();
    assert_eq!(of("host=a,b port=1,2").unwrap(), "me@a:1=first,b:2/me");
    assert_eq!(of("host=a,b port=1").unwrap(), "me@a:1=first,b:1/me");
    assert_eq!(
        of("host=a,b port=,2 dbname=shop").unwrap(),
        "me@a:5432=any,b:2=any/shop"
    );
    assert_eq!(of("postgresql://a:1,b:2/shop").unwrap(), "me@a:1=first,b:2=any/shop");
    assert_eq!(of("host=a,b password=p").unwrap(), "me@a:5432=p,b:5432=p/me");
    assert_eq!(
        of("").unwrap(),
        format!("me@{sockets}:5432=local/me"),
        "the default socket"
    );
    assert_eq!(of("host=/elsewhere").unwrap(), "me@/elsewhere:5432/me");
    assert_eq!(of("hostaddr=10.0.0.1").unwrap(), "me@10.0.0.1:5432=by address/me");
    assert_eq!(of("host=a hostaddr=10.0.0.1 port=1").unwrap(), "me@a:1=first/me");
    assert_eq!(of("host=@name").unwrap(), "me@@name:5432/me");
    for (url, expected) in [
        ("host=a,b port=1,2,3", "--url: port: there are 3 ports for 2 hosts"),
        (
            "host=a,b hostaddr=::1",
            "--url: hostaddr: there are 1 addresses for 2 hosts",
        ),
        ("hostaddr=localhost", "--url: hostaddr: entry 1 is no IP address"),
        ("host=/tmp hostaddr=::1", "--url: hostaddr: a socket has no address"),
        ("host=a port=0", "--url: port: entry 1 is no port; expected 1 to 65535"),
        (
            "host=a,b port=1,x",
            "--url: port: entry 2 is no port; expected 1 to 65535",
        ),
    ] {
        assert_eq!(of(url).unwrap_err(), expected, "{url}");
    }
    let settings = site.of("host=a,b port=1,2").unwrap();
    let from = settings.hosts[0].password_from.clone().unwrap();
    assert!(from.ends_with(".pgpass:1"), "{from}");
}

#[test]
fn a_password_file_that_others_may_read_is_not_used() {
    let site = Site::new(&[("PGPASSFILE", "/nonexistent")]);
    site.write("home/pass", "*:*:*:*:p");
    let path = site.dir.path().join("home/pass").display().to_string();
    let url = format!("host=h passfile='{path}'");
    assert_eq!(told(&site.of(&url).unwrap()), "me@h:5432=p/me");
    for mode in [0o640, 0o604, 0o644] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let settings = site.of(&url.replace("host=h", "host=h,i")).unwrap();
        assert_eq!(told(&settings), "me@h:5432,i:5432/me", "{mode:o}");
        let warning =
            format!("the password file {path} is not used: others may read it; make it private with chmod 600");
        assert_eq!(settings.warnings, [warning], "{mode:o}: once, not for each host");
    }
}

#[test]
fn services_are_looked_for_in_the_users_file_then_in_the_systems() {
    let site = Site::new(&[("PGSERVICE", "both")]);
    site.write("home/.pg_service.conf", "[both]\nhost=users\n[bad]\nhost=h\noops\n");
    site.write(
        "system/pg_service.conf",
        "[both]\nhost=systems\n[system]\nhost=systems\n",
    );
    let of = |url: &str| site.of(url).map(|settings| told(&settings));
    assert_eq!(of("").unwrap(), "me@users:5432/me");
    assert_eq!(of("service=system").unwrap(), "me@systems:5432/me");
    let file = site.dir.path().join("home/.pg_service.conf").display().to_string();
    assert_eq!(
        of("service=bad").unwrap_err(),
        format!("{file}:5: there is no `=` in it")
    );
    assert!(
        of("service=none")
            .unwrap_err()
            .starts_with("--url: service: there is no service of that name in /")
    );
    let site = Site::new(&[("PGSERVICE", "s"), ("PGSERVICEFILE", "/nonexistent/file")]);
    let missing = "PGSERVICE: the service file /nonexistent/file does not exist";
    assert_eq!(site.of("").unwrap_err(), missing);
    let site = Site::new(&[("PGSERVICE", "s")]);
    assert!(site.of("").unwrap_err().contains("there is no service file"));
    site.write("home/.pg_service.conf", "[s]\nport=x\n");
    let file = site.dir.path().join("home/.pg_service.conf").display().to_string();
    assert_eq!(
        site.of("").unwrap_err(),
        format!("{file}:2: port: entry 1 is no port; expected 1 to 65535")
    );
}

#[test]
fn what_cannot_be_had_is_refused_and_not_ignored() {
    let site = Site::new(&[]);
    for (url, expected) in [
        (
            "gssencmode=require",
            "--url: gssencmode cannot be had here: db-race has no GSSAPI",
        ),
        (
            "client_encoding=LATIN1",
            "--url: client_encoding cannot be had here: db-race speaks UTF8 to the server",
        ),
        ("replication=true", "--url: replication cannot be had here"),
        (
            "sslcrldir=/d",
            "--url: sslcrldir cannot be had here: only a single file",
        ),
        (
            "sslmode=on",
            "--url: sslmode: expected one of disable, allow, prefer, require, verify-ca, verify-full",
        ),
        ("sslmode=VERIFY-FULL", "--url: sslmode: expected one of"),
        (
            "target_session_attrs=master",
            "--url: target_session_attrs: expected one of any, ",
        ),
        (
            "sslnegotiation=direct",
            "--url: sslnegotiation: direct needs sslmode=require or stronger",
        ),
        (
            "sslrootcert=system sslmode=require",
            "--url: sslmode: with sslrootcert=system only verify-full",
        ),
        (
            "sslmode=verify-ca",
            "--url: sslmode: there is nothing to check the server's certificate against",
        ),
        (
            "sslmode=require sslrootcert=/no/root.crt",
            "--url: sslrootcert: the file /no/root.crt does not exist",
        ),
        (
            "ssl_max_protocol_version=TLSv1.1",
            "--url: ssl_max_protocol_version: expected one of TLSv1.2, TLSv1.3",
        ),
        ("require_auth=kerberos", "--url: require_auth: expected some of"),
        (
            "require_auth=md5,!password",
            "--url: require_auth: methods with and without",
        ),
        (
            "connect_timeout=soon",
            "--url: connect_timeout: expected a whole number",
        ),
        (
            "hostaddr=::1 sslmode=verify-full sslrootcert=system",
            "--url: sslmode: verify-full needs a host name",
        ),
        (
            "sslcertmode=require",
            "--url: sslcertmode: expected one of disable, allow",
        ),
    ] {
        let error = site.of(url).unwrap_err();
        assert!(error.starts_with(expected), "{url}: {error}");
    }
    let site = Site::new(&[("PGSSLMODE", "yes")]);
    assert!(site.of("").unwrap_err().starts_with("PGSSLMODE: expected one of"));
    let site = Site::new(&[
        ("PGGSSENCMODE", "prefer"),
        ("PGCLIENTENCODING", "utf8"),
        ("PGAPPNAME", "x"),
        ("PGREQUIRESSL", "1"),
    ]);
    assert_eq!(site.of("").unwrap().tls.mode, SslMode::Require);
}

#[test]
fn every_value_arrives() {
    let site = Site::new(&[
        ("PGTZ", "Europe/Berlin"),
        ("PGDATESTYLE", "ISO, DMY"),
        ("PGOPTIONS", "-c geqo=off"),
    ]);
    site.write("home/.postgresql/root.crt", "")
        .write("home/.postgresql/root.crl", "");
    site.write("home/.postgresql/postgresql.crt", "");
    let settings = site
        .of(
            "connect_timeout=3 keepalives_idle=60 keepalives_interval=5 keepalives_count=2 tcp_user_timeout=900 \
             sslmode=verify-full ssl_min_protocol_version=TLSv1.3 sslsni=0 target_session_attrs=prefer-standby \
             load_balance_hosts=random require_auth='scram-sha-256, md5' requirepeer=postgres host=h password=secret",
        )
        .unwrap();
    assert_eq!(settings.connect_timeout, Duration::from_secs(3));
    assert_eq!(settings.startup_timeout, Duration::from_secs(3));
    let keepalive = settings.keepalive.unwrap();
    assert_eq!(keepalive.idle, Some(Duration::from_secs(60)));
    assert_eq!(keepalive.interval, Some(Duration::from_secs(5)));
    assert_eq!(keepalive.count, Some(2));
    assert_eq!(settings.tcp_user_timeout, Some(Duration::from_millis(900)));
    assert_eq!(settings.session, SessionAttributes::PreferStandby);
    assert!(settings.is_balanced);
    assert_eq!(settings.authentication.methods, ["scram-sha-256", "md5"]);
    assert_eq!(settings.server_user.as_deref(), Some("postgres"));
    assert_eq!(
        settings.options.as_deref(),
        Some(r"-c datestyle=ISO,\ DMY -c timezone=Europe/Berlin -c geqo=off")
    );
    let home = site.dir.path().join("home/.postgresql");
    assert_eq!(settings.tls.mode, SslMode::VerifyFull);
    assert_eq!(settings.tls.min, TlsVersion::Tls13);
    assert!(!settings.tls.has_sni);
    assert_eq!(settings.tls.roots, Roots::File(home.join("root.crt")));
    assert_eq!(settings.tls.crl, Some(home.join("root.crl")));
    assert_eq!(
        settings.tls.certificate,
        Some((home.join("postgresql.crt"), home.join("postgresql.key")))
    );
    assert!(!format!("{settings:?}").contains("\"secret\""), "{settings:?}");
    let settings = site.of("keepalives=0 sslcertmode=disable sslrootcert=system").unwrap();
    assert_eq!(settings.keepalive, None);
    assert_eq!(settings.tls.certificate, None);
    assert_eq!(
        (settings.tls.roots, settings.tls.mode),
        (Roots::System, SslMode::VerifyFull)
    );
}

#[test]
fn a_secret_is_not_shown() {
    assert_eq!(format!("{:?}", Secret::new("hunter2")), "(secret)");
    let asked = string("postgresql://u:hunter2@h");
    assert!(!format!("{asked:?}").contains("hunter2"));
}
