//! On a standby, and through a transaction pooler.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::database::Database;
use crate::common::standby::Standby;
use crate::common::wait_for;
use crate::{Shop, told};

#[test]
fn a_standby_is_audited_like_its_primary() {
    let shop = Shop::new();
    let standby = Standby::of(&shop.server, &shop.sandbox.dir().join("srv/standby"));
    let audit = |code: i32| {
        standby.catch_up();
        let words = format!(
            "audit checks --url {} --state s.sqlite --format json",
            standby.url_of("postgres@/postgres")
        );
        shop.sandbox.run(&words).exits(code).json()
    };
    shop.breaks(&[1, 2]);
    let first = audit(2);
    assert_eq!(told(&first["audit"])[0], [1, 2]);
    assert_eq!(first["databases"][0]["standby"], true);
    shop.breaks(&[2]);
    assert_eq!(told(&audit(2)["audit"]), [vec![], vec![2], vec![1], vec![]]);
    // the lock is there, too
    let there = Database::connect(&standby.url_of("postgres@/postgres"));
    let key = "select classid::int, objid::bigint from pg_locks where locktype = 'advisory'";
    assert_eq!(there.rows(key), [[""; 0]; 0], "and gone with the run");
}

/// A pgbouncer in transaction pooling with one connection to the server.
struct Pooler {
    child: Child,
    port: u16,
}

impl Pooler {
    /// None: it is not installed.
    fn start(shop: &Shop) -> Option<Pooler> {
        let url = shop.server.url();
        let socket_dir = url.split("host=").nth(1)?.split('&').next()?.to_string();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = shop.sandbox.dir().join("srv");
        fs::write(dir.join("users.txt"), "\"postgres\" \"\"\n").unwrap();
        let ini = format!(
            "[databases]\n* = host={socket_dir} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {0}/users.txt\npool_mode = transaction\ndefault_pool_size = 5\n",
            dir.display()
        );
        let file = dir.join("pgbouncer.ini");
        fs::write(&file, ini).unwrap();
        let mut command = Command::new("/usr/sbin/pgbouncer");
        if nix::unistd::Uid::effective().is_root() {
            // as the server's user: it refuses to be root, and nobody else may enter the socket's directory
            let owner = fs::metadata(&socket_dir).unwrap();
            command.uid(owner.uid()).gid(owner.gid());
        }
        let child = command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(child) = child else {
            let _ = writeln!(std::io::stderr(), "SKIPPED: there is no pgbouncer here");
            return None;
        };
        let pooler = Pooler { child, port };
        wait_for("pgbouncer", Duration::from_secs(20), || {
            Database::try_connect(&pooler.url("postgres"))
        });
        Some(pooler)
    }

    fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn through_a_transaction_pooler_nothing_is_left_behind() {
    let shop = Shop::new();
    let Some(pooler) = Pooler::start(&shop) else { return };
    shop.server.exec("create database memory");
    let audit = |code: i32| {
        let words = format!(
            "audit checks --format json --url {} --state {}",
            pooler.url("postgres"),
            pooler.url("memory")
        );
        shop.sandbox.run(&words).exits(code).json()["audit"].clone()
    };
    for round in 0..4 {
        shop.breaks(&[1, round + 2]);
        let seen = audit(2);
        let expected = match round {
            0 => [vec![1, 2], vec![], vec![], vec![]],
            n => [vec![n + 2], vec![1], vec![n + 1], vec![]],
        };
        assert_eq!(told(&seen), expected, "round {round}");
    }
    // no lock of a run stays on the pooler's connections
    let locks = "(select count(*) from pg_locks where locktype = 'advisory') = 0";
    assert!(shop.server.is(locks));
}
