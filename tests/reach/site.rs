//! A sandbox with a home of its own, and servers that ask who is there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use db_race::postgres::server::Options;

use crate::certificates::Pair;
use crate::common::run::Run;
use crate::common::{Sandbox, TestServer, wait_until};

/// Who may come in, and how. The superuser comes by the socket.
const HBA: &str = "\
local     all  all                      trust
host      all  scram      127.0.0.1/32  scram-sha-256
host      all  cleartext  127.0.0.1/32  password
host      all  anybody    127.0.0.1/32  trust
hostssl   all  encrypted  127.0.0.1/32  trust
hostnossl all  plain      127.0.0.1/32  trust
hostssl   all  certified  127.0.0.1/32  cert
";

pub(crate) struct Site {
    pub(crate) sandbox: Sandbox,
}

impl Site {
    pub(crate) fn new() -> Site {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.dir().join("home")).unwrap();
        // finds a row where the connection is not encrypted
        check(
            &sandbox,
            "encrypted",
            "select pid from pg_stat_ssl where pid = pg_backend_pid() and not ssl",
        );
        check(&sandbox, "fine", "select 1 where false");
        Site { sandbox }
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.sandbox.dir().join("home").join(name)
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn private(&self, name: &str, text: &str) -> String {
        let path = self.sandbox.write(name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The tool, as somebody who is at home here.
    pub(crate) fn command(&self, words: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = self.sandbox.command_of(words);
        command.env("HOME", self.home("")).envs(variables.iter().copied());
        command
    }

    #[track_caller]
    pub(crate) fn run(&self, words: &[&str], variables: &[(&str, &str)]) -> Run {
        self.sandbox.run_command(self.command(words, variables))
    }

    /// Runs the check that wants an encrypted connection.
    #[track_caller]
    pub(crate) fn is_encrypted(&self, url: &str) -> Run {
        self.run(&["verify", "encrypted.sql", "--url", url], &[])
    }

    /// Runs a check that always holds.
    #[track_caller]
    pub(crate) fn verify(&self, words: &[&str], variables: &[(&str, &str)]) -> Run {
        self.run(&[&["verify", "fine.sql"], words].concat(), variables)
    }

    /// A server on a port of 127.0.0.1 with a role for each way to come in.
    pub(crate) fn server(&self) -> TestServer {
        let hba = self.sandbox.write("hba.conf", HBA);
        let server = self.sandbox.listening_server(Options {
            settings: vec![("hba_file".into(), hba)],
            ..Options::default()
        });
        server.exec(
            "set password_encryption = 'scram-sha-256';
             create role scram login createdb password 'rIgHt';
             create role cleartext login password 'rIgHt';
             create role anybody login createdb; create role encrypted login; create role plain login; create role certified login",
        );
        server
    }

    /// The same with a certificate.
    pub(crate) fn tls_server(&self, pair: &Pair) -> TestServer {
        let server = self.server();
        self.certify(&server, pair, None);
        server
    }

    /// Gives a server a certificate, and those that sign its clients'.
    pub(crate) fn certify(&self, server: &TestServer, pair: &Pair, clients: Option<&Pair>) {
        let (user, group) = server.account();
        let key = server.data_dir().join("given.key");
        fs::copy(&pair.key, &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&key, Some(user), Some(group)).unwrap();
        server.exec(&format!("alter system set ssl_key_file = '{}'", key.display()));
        server.exec(&format!(
            "alter system set ssl_cert_file = '{}'",
            pair.certificate.display()
        ));
        if let Some(clients) = clients {
            server.exec(&format!(
                "alter system set ssl_ca_file = '{}'",
                clients.certificate.display()
            ));
        }
        server.exec("alter system set ssl = on");
        server.exec("select pg_reload_conf()");
        wait_until("TLS is on", std::time::Duration::from_secs(10), || {
            server.value("show ssl") == "on"
        });
    }
}

pub(crate) fn check(sandbox: &Sandbox, id: &str, sql: &str) {
    let text = format!("-- /// db-race check\n-- id = \"{id}\"\n-- title = \"Check {id}\"\n-- ///\n{sql}\n");
    sandbox.write(&format!("{id}.sql"), &text);
}
