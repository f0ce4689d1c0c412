//! TLS with real servers and certificates made by openssl.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::certificates::{openssl, self_signed, signed_by, signed_for};
use crate::common::wait_until;
use crate::site::{Site, check};

const ENCRYPTED: i32 = 0;
const PLAIN: i32 = 2;
const REFUSED: i32 = 69;
const WRONG_SETTINGS: i32 = 64;

#[test]
fn each_sslmode_encrypts_as_libpq_does() {
    let site = Site::new();
    let root = self_signed(site.sandbox.dir(), "root", "localhost");
    let server = site.tls_server(&root);
    for (mode, user, expected) in [
        ("disable", "anybody", PLAIN),
        ("disable", "encrypted", REFUSED),
        ("allow", "anybody", PLAIN),
        ("allow", "encrypted", ENCRYPTED),
        ("prefer", "anybody", ENCRYPTED),
        ("prefer", "plain", PLAIN),
        ("require", "anybody", ENCRYPTED),
        ("require", "plain", REFUSED),
    ] {
        let url = format!(
            "postgresql://{user}@127.0.0.1:{}/postgres?sslmode={mode}",
            server.port()
        );
        let run = site.is_encrypted(&url);
        assert_eq!(run.code, Some(expected), "{mode} {user}\n{run}");
    }
    // a port without TLS
    server.exec("alter system set ssl = off");
    server.exec("select pg_reload_conf()");
    wait_until("TLS is off", Duration::from_secs(10), || {
        server.value("show ssl") == "off"
    });
    for (mode, expected) in [("allow", PLAIN), ("prefer", PLAIN), ("require", REFUSED)] {
        let url = format!(
            "host=127.0.0.1 port={} user=anybody dbname=postgres sslmode={mode}",
            server.port()
        );
        let run = site.is_encrypted(&url);
        assert_eq!(run.code, Some(expected), "{mode}\n{run}");
        if expected == REFUSED {
            run.complains(&["the server does not support TLS"]);
        }
    }
}

#[test]
fn the_certificate_is_checked_as_strictly_as_was_asked_for() {
    let site = Site::new();
    let dir = site.sandbox.dir();
    let root = self_signed(dir, "root", "root");
    let other = self_signed(dir, "other", "root");
    let names = Some("subjectAltName=DNS:db.test,DNS:*.wild.test,IP:127.0.0.1");
    let server = site.tls_server(&signed_by(&root, dir, "server", "ignored.test", names));
    let at = |host: &str, rest: &str| {
        let port = server.port();
        site.is_encrypted(&format!(
            "host={host} hostaddr=127.0.0.1 port={port} user=anybody dbname=postgres {rest}"
        ))
    };
    let (right, wrong) = (root.certificate(), other.certificate());
    for host in ["db.test", "DB.test", "a.wild.test", "127.0.0.1"] {
        at(host, &format!("sslmode=verify-full sslrootcert={right}")).exits(ENCRYPTED);
    }
    for host in ["elsewhere.test", "ignored.test", "a.b.wild.test", "127.0.0.2"] {
        let run = at(host, &format!("sslmode=verify-full sslrootcert={right}")).exits(REFUSED);
        run.complains(&["certificate is for db.test, *.wild.test, 127.0.0.1, not for ", host]);
        at(host, &format!("sslmode=verify-ca sslrootcert={right}")).exits(ENCRYPTED);
    }
    // a root file is used in each mode that demands encryption, and prefer goes on without
    for mode in ["require", "verify-ca", "verify-full"] {
        let run = at("db.test", &format!("sslmode={mode} sslrootcert={wrong}")).exits(REFUSED);
        run.complains(&["no certificate of the root file"]);
    }
    at("db.test", &format!("sslmode=prefer sslrootcert={wrong}")).exits(PLAIN);
    // nothing to check against
    at("db.test", "sslmode=require").exits(ENCRYPTED);
    at("db.test", "sslmode=verify-ca")
        .exits(WRONG_SETTINGS)
        .complains(&["root.crt does not exist"]);
    // the file that is used when none is named
    fs::create_dir(site.home(".postgresql")).unwrap();
    fs::copy(&other.certificate, site.home(".postgresql/root.crt")).unwrap();
    at("db.test", "sslmode=require").exits(REFUSED);
    fs::copy(&root.certificate, site.home(".postgresql/root.crt")).unwrap();
    at("db.test", "sslmode=verify-full").exits(ENCRYPTED);
    // no public authority has signed it
    let run = at("db.test", "sslrootcert=system");
    assert!(run.code == Some(REFUSED) || run.code == Some(WRONG_SETTINGS), "{run}");
}

#[test]
fn certificates_made_as_postgresqls_documentation_says_are_accepted() {
    let site = Site::new();
    let dir = site.sandbox.dir();
    // "Creating Certificates" in the chapter on TLS: one certificate for all, named by its CN
    openssl(
        dir,
        "req -new -x509 -days 3 -nodes -text -newkey rsa:2048 -out self.crt -keyout self.key -subj /CN=db.test",
    );
    let own = crate::certificates::Pair {
        certificate: dir.join("self.crt"),
        key: dir.join("self.key"),
    };
    let root = self_signed(dir, "root", "root.test");
    let impostor = self_signed(dir, "impostor", "root.test");
    let other = self_signed(dir, "other", "db.test");
    let server = site.server();
    let at = |host: &str, mode: &str, root: &str| {
        let port = server.port();
        site.is_encrypted(&format!(
            "host={host} hostaddr=127.0.0.1 port={port} user=anybody dbname=postgres sslmode={mode} sslrootcert={root}"
        ))
    };
    site.certify(&server, &own, None);
    at("db.test", "verify-full", own.certificate()).exits(ENCRYPTED);
    at("elsewhere.test", "verify-full", own.certificate())
        .exits(REFUSED)
        .complains(&["is for db.test, not for"]);
    at("elsewhere.test", "verify-ca", own.certificate()).exits(ENCRYPTED);
    at("db.test", "verify-ca", other.certificate()).exits(REFUSED);
    // ... or one signed by a root of one's own, without extensions
    let v1 = signed_by(&root, dir, "v1", "db.test", None);
    site.certify(&server, &v1, None);
    let certificates = fs::read_to_string(&v1.certificate).unwrap();
    wait_until("the new certificate", Duration::from_secs(10), || {
        at("db.test", "verify-ca", own.certificate()).code == Some(REFUSED)
    });
    assert!(certificates.contains("BEGIN CERTIFICATE"));
    at("db.test", "require", "").exits(ENCRYPTED);
    at("db.test", "verify-full", root.certificate()).exits(ENCRYPTED);
    at("elsewhere.test", "verify-full", root.certificate()).exits(REFUSED);
    // the same name, another key
    at("db.test", "verify-ca", impostor.certificate()).exits(REFUSED);
}

#[test]
fn a_certificate_that_is_over_or_revoked_is_refused() {
    let site = Site::new();
    let dir = site.sandbox.dir();
    let root = self_signed(dir, "root", "root");
    let names = Some("subjectAltName=DNS:db.test");
    let server = site.server();
    let at = |rest: &str| {
        let (port, root) = (server.port(), root.certificate());
        site.is_encrypted(&format!(
            "host=db.test hostaddr=127.0.0.1 port={port} user=anybody dbname=postgres sslmode=verify-full sslrootcert={root} {rest}"
        ))
    };
    let good = signed_by(&root, dir, "good", "db.test", names);
    site.certify(&server, &good, None);
    at("").exits(ENCRYPTED);
    fs::write(dir.join("index.txt"), "").unwrap();
    fs::write(dir.join("serial"), "01\n").unwrap();
    let conf =
        "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=3\ncrlnumber=number\n";
    fs::write(dir.join("number"), "01\n").unwrap();
    fs::write(dir.join("ca.conf"), conf).unwrap();
    let crl = |name: &str| {
        openssl(
            dir,
            &format!("ca -config ca.conf -gencrl -cert root.crt -keyfile root.key -out {name}"),
        );
    };
    crl("none.crl");
    at(&format!("sslcrl={}", dir.join("none.crl").display())).exits(ENCRYPTED);
    openssl(
        dir,
        "ca -config ca.conf -revoke good.crt -cert root.crt -keyfile root.key",
    );
    crl("one.crl");
    at(&format!("sslcrl={}", dir.join("one.crl").display()))
        .exits(REFUSED)
        .complains(&["it was revoked"]);
    for extensions in [names, None] {
        let over = signed_for(&root, dir, "over", "db.test", extensions, "-1");
        site.certify(&server, &over, None);
        wait_until("the new certificate", Duration::from_secs(10), || {
            at("").code == Some(REFUSED)
        });
        at("sslmode=verify-ca").exits(REFUSED);
    }
}

#[test]
fn a_client_certificate_opens_the_door() {
    let site = Site::new();
    let dir = site.sandbox.dir();
    let root = self_signed(dir, "root", "root");
    let server = site.server();
    let names = Some("subjectAltName=DNS:db.test");
    site.certify(&server, &signed_by(&root, dir, "server", "db.test", names), Some(&root));
    let at = |rest: &str| {
        let port = server.port();
        site.is_encrypted(&format!(
            "host=127.0.0.1 port={port} user=certified dbname=postgres sslmode=require {rest}"
        ))
    };
    for (name, extensions) in [("client", Some("subjectAltName=DNS:x")), ("old", None)] {
        let pair = signed_by(&root, dir, name, "certified", extensions);
        let flags = format!("sslcert={} sslkey={}", pair.certificate(), pair.key());
        at(&flags).exits(ENCRYPTED);
        // in the home
        fs::create_dir_all(site.home(".postgresql")).unwrap();
        for (from, to) in [(&pair.certificate, "postgresql.crt"), (&pair.key, "postgresql.key")] {
            fs::copy(from, site.home(".postgresql").join(to)).unwrap();
        }
        at("").exits(ENCRYPTED);
        at("sslcertmode=disable").exits(REFUSED).complains(&["certificate"]);
        fs::remove_dir_all(site.home(".postgresql")).unwrap();
    }
    at("")
        .exits(REFUSED)
        .complains(&["requires a valid client certificate"]);
    let stranger = signed_by(&root, dir, "stranger", "stranger", Some("subjectAltName=DNS:x"));
    let flags = format!("sslcert={} sslkey={}", stranger.certificate(), stranger.key());
    at(&flags).exits(REFUSED).complains(&["certified", "28000"]);

    let client = dir.join("client.crt");
    let with_key = |key: &str| at(&format!("sslcert={} sslkey={key}", client.display()));
    with_key(stranger.key())
        .exits(WRONG_SETTINGS)
        .complains(&["stranger.key is not that of the certificate"]);
    with_key("/nonexistent.key")
        .exits(WRONG_SETTINGS)
        .complains(&["cannot read the private key /nonexistent.key"]);
    fs::set_permissions(dir.join("client.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let key = dir.join("client.key").display().to_string();
    with_key(&key)
        .exits(WRONG_SETTINGS)
        .complains(&["client.key can be read by others", "chmod 600"]);
    openssl(dir, "pkey -in client.key -aes256 -passout pass:sEcReT -out locked.key");
    fs::set_permissions(dir.join("locked.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let key = dir.join("locked.key").display().to_string();
    with_key(&key)
        .exits(WRONG_SETTINGS)
        .complains(&["locked.key has a passphrase"]);
}

#[test]
fn a_password_is_bound_to_the_channel_it_is_for() {
    let site = Site::new();
    let root = self_signed(site.sandbox.dir(), "root", "db.test");
    let server = site.tls_server(&root);
    let at = |user: &str, rest: &str| {
        let port = server.port();
        site.is_encrypted(&format!(
            "host=127.0.0.1 port={port} user={user} password=rIgHt dbname=postgres {rest}"
        ))
    };
    at("scram", "sslmode=require channel_binding=require").exits(ENCRYPTED);
    at("scram", "sslmode=require channel_binding=disable").exits(ENCRYPTED);
    at("scram", "sslmode=disable channel_binding=prefer").exits(PLAIN);
    for rest in [
        "sslmode=disable channel_binding=require",
        "sslmode=require channel_binding=require",
    ] {
        let user = if rest.contains("disable") { "scram" } else { "cleartext" };
        at(user, rest).exits(REFUSED).complains(&["channel binding"]);
    }
    // what a server may ask for at all
    at("scram", "sslmode=require require_auth=scram-sha-256").exits(ENCRYPTED);
    at("cleartext", "sslmode=require require_auth=!scram-sha-256").exits(ENCRYPTED);
    for (user, methods, expected) in [
        (
            "cleartext",
            "scram-sha-256",
            "asks for password authentication, which require_auth forbids",
        ),
        ("cleartext", "!password", "asks for password"),
        ("anybody", "scram-sha-256", "let the client in without authentication"),
    ] {
        let run = at(user, &format!("sslmode=require require_auth={methods}")).exits(REFUSED);
        run.complains(&[expected]);
    }
}

#[test]
fn only_what_both_speak_is_spoken() {
    let site = Site::new();
    let root = self_signed(site.sandbox.dir(), "root", "db.test");
    let server = site.tls_server(&root);
    let at = |rest: &str| {
        let port = server.port();
        site.is_encrypted(&format!(
            "host=127.0.0.1 port={port} user=anybody dbname=postgres sslmode=require {rest}"
        ))
    };
    let version = "select version, 1 from pg_stat_ssl where pid = pg_backend_pid() and version <> 'TLSv1.2'";
    check(&site.sandbox, "encrypted", version);
    at("").exits(PLAIN).shows(&["TLSv1.3"]);
    at("ssl_max_protocol_version=TLSv1.2").exits(ENCRYPTED);
    at("ssl_min_protocol_version=TLSv1.3").exits(PLAIN).shows(&["TLSv1.3"]);
    // older servers take the handshake for a startup packet and end the connection
    let major: u32 = server.value("show server_version_num").parse::<u32>().unwrap() / 10_000;
    let direct = at("sslnegotiation=direct");
    assert_eq!(direct.code, Some(if major >= 17 { PLAIN } else { REFUSED }), "{direct}");
}

#[test]
fn a_run_is_cancelled_over_tls() {
    let site = Site::new();
    let root = self_signed(site.sandbox.dir(), "root", "db.test");
    let server = site.tls_server(&root);
    check(&site.sandbox, "slow", "select 1 where pg_sleep(600) is null");
    let port = server.port();
    let url = format!(
        "host=db.test hostaddr=127.0.0.1 port={port} user=encrypted dbname=postgres sslmode=verify-full sslrootcert={}",
        root.certificate()
    );
    let mut run = crate::common::run::Running::start(
        site.command(&["verify", "slow.sql", "--timeout", "10m", "--url", &url], &[]),
    );
    let sleeps = "(select count(*) from pg_stat_activity where wait_event = 'PgSleep') = 1";
    wait_until("the check runs", Duration::from_secs(30), || server.is(sleeps));
    run.signal(Signal::SIGINT);
    wait_until("the run ends", Duration::from_secs(20), || run.has_ended());
    run.wait().exits(130);
    assert!(!server.is(sleeps), "it was cancelled, not left alone");
}
