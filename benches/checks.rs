//! What checks cost: 200 of them over a large database, and 200 that do nothing, against psql.
//!
//! `BENCH_ROWS` says how many rows the database has (10,000,000), `BENCH_WORK_MEM` what work_mem is (4MB, PostgreSQL's own). A line each,
//! medians of `ROUNDS` with the ratios' range:
//!
//! - `psql -f` one after another, a process each, as a script of checks does it; and one psql with all of the files, which costs no
//!   connections but gives no result by check;
//! - two `psql -f` side by side, which is what the machine's cores are worth for these checks;
//! - `db-race verify`, with the longest check, as it tells itself.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints, and stops when something is wrong"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use db_race::postgres::server::{Options, Server};
use serde_json::Value;

const ROUNDS: usize = 5;
const CHECKS: usize = 200;

/// A shop: customers, orders, their items and payments; one row in ten is a customer, two an order, five an item, two a payment.
const SCHEMA: &str = "
    create table customers as select n as id, 'c' || n || '@shop.example' as email, n % 100 as country
        from generate_series(1, :rows / 10) n;
    create table orders as select n as id, 1 + n % (:rows / 10) as customer, n % 5 as status, 10 * (n % 7 + 1) as total,
        timestamptz '2030-01-01' + n * interval '1 second' as at from generate_series(1, :rows / 5) n;
    create table items as select n as id, 1 + n % (:rows / 5) as order_id, n % 1000 as product, 1 + n % 3 as quantity
        from generate_series(1, :rows / 2) n;
    create table payments as select n as id, n as order_id, 10 * (n % 7 + 1) as amount from generate_series(1, :rows / 5) n;
    alter table customers add primary key (id);
    alter table orders add primary key (id);
    alter table items add primary key (id);
    alter table payments add primary key (id);
    create index on orders (customer);
    create index on items (order_id);
    create index on payments (order_id);
    vacuum analyze;
";

/// Checks of one weight each; `:n` tells them apart.
const HEAVY: [&str; 4] = [
    "select o.id from orders o join payments p on p.order_id = o.id where o.total <> p.amount and o.id % 7 <> :n order by o.id",
    "select i.id from items i where not exists (select from orders o where o.id = i.order_id) and i.id <> :n order by i.id",
    "select order_id as id, count(*) from payments where id <> -:n group by order_id having count(*) > 1 order by 1",
    "select customer as id, sum(total) from orders where status <> 9 + :n group by customer having sum(total) < 0 order by 1",
];
const MIDDLE: [&str; 4] = [
    "select id from orders where total < -:n order by id",
    "select id from payments where amount > 1000 + :n order by id",
    "select id from customers where email not like '%@%' or country < -:n order by id",
    "select id from orders where at < '2000-01-01'::timestamptz - :n * interval '1 day' order by id",
];
const LIGHT: [&str; 4] = [
    "select id from orders where id = 1000 + :n and status > 10 order by id",
    "select i.id from items i where i.order_id between :n and :n + 50 and i.quantity > 3 order by i.id",
    "select o.id from orders o where o.customer = :n and not exists (select from payments p where p.order_id = o.id) order by o.id",
    "select oid as id from pg_class where relname = 'no_such_table_:n' order by oid",
];

fn main() {
    let rows: u64 =
        std::env::var("BENCH_ROWS").map_or(10_000_000, |rows| rows.parse().expect("BENCH_ROWS is a number"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let work_mem = std::env::var("BENCH_WORK_MEM").unwrap_or_else(|_| "4MB".into());
    let settings = [
        ("shared_buffers", "512MB"),
        ("work_mem", &work_mem),
        ("max_wal_size", "4GB"),
        ("maintenance_work_mem", "256MB"),
    ];
    let options = Options {
        settings: settings
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .to_vec(),
        ..Options::default()
    };
    let server = runtime.block_on(Server::start(&options)).expect("a server");
    let bench = Bench {
        psql: server.bin_dir().join("psql"),
        url: server.url(),
        dir: server.dir().join("bench"),
    };
    fs::create_dir(&bench.dir).expect("a directory");
    let schema = bench.file("schema.sql", SCHEMA);
    let built = Instant::now();
    bench.psql(&["-v", &format!("rows={rows}")], &[&schema]);
    println!("{rows} rows in {:.0} s", built.elapsed().as_secs_f64());

    println!("\n{CHECKS} checks, of which a tenth reads large tables, a fifth a table, the others a few rows:");
    let mixed = bench.checks("mixed", |n| match n % 10 {
        0 => HEAVY[n / 10 % 4].to_string(),
        1 | 2 => MIDDLE[n / 10 % 4].to_string(),
        _ => LIGHT[n % 4].to_string(),
    });
    bench.compare(&mixed);
    println!("\n{CHECKS} checks that do nothing:");
    let trivial = bench.checks("trivial", |_| "select :n as id where false".to_string());
    bench.compare(&trivial);
    println!("  own cost per check: {:.2} ms", bench.own_cost(&trivial));
    runtime.block_on(server.stop()).expect("a stop");
}

struct Bench {
    psql: PathBuf,
    url: String,
    dir: PathBuf,
}

impl Bench {
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&self.dir)).expect("a directory");
        fs::write(&path, text).expect("a file");
        path
    }

    fn checks(&self, name: &str, sql: impl Fn(usize) -> String) -> Vec<PathBuf> {
        let check = |n: usize| {
            let sql = sql(n).replace(":n", &n.to_string());
            let head = format!(
                "-- /// db-race check\n-- id = \"{name}.{n:03}\"\n-- title = \"t\"\n-- key = [\"id\"]\n-- ///\n"
            );
            self.file(&format!("{name}/{n:03}.sql"), &format!("{head}{sql};\n"))
        };
        (0..CHECKS).map(check).collect()
    }

    fn psql(&self, flags: &[&str], files: &[&Path]) {
        let mut command = Command::new(&self.psql);
        command
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
            .args(flags)
            .args(["-d", &self.url]);
        files.iter().for_each(|file| {
            command.arg("-f").arg(file);
        });
        let status = command.stdout(Stdio::null()).status().expect("psql runs");
        assert!(status.success(), "{status}");
    }

    /// Two at a time, each with whatever file is next.
    fn two_psql(&self, files: &[&Path]) {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.psql(&[], &[file]);
            }
        };
        thread::scope(|scope| {
            scope.spawn(work);
            work();
        });
    }

    /// How long it took, and the longest check.
    fn verify(&self, files: &[PathBuf]) -> (Duration, f64) {
        let started = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_db-race"))
            .arg("verify")
            .args(files)
            .args([
                "--allow-superuser",
                "--timeout",
                "10m",
                "--format",
                "json",
                "--url",
                &self.url,
            ])
            .output()
            .expect("db-race runs");
        let took = started.elapsed();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        let checks = report["checks"].as_array().expect("checks");
        let longest = checks
            .iter()
            .filter_map(|check| check["duration_ms"].as_f64())
            .fold(0.0, f64::max);
        (took, longest)
    }

    /// The own cost of a check that does nothing, in ms.
    fn own_cost(&self, files: &[PathBuf]) -> f64 {
        let all = median((0..ROUNDS).map(|_| ms(self.verify(files).0)));
        let one = median((0..ROUNDS).map(|_| ms(self.verify(&files[..1]).0)));
        (all - one) / (files.len() - 1) as f64
    }

    /// All ways after one another, round by round, so that a machine that changes its speed changes all of them.
    fn compare(&self, files: &[PathBuf]) {
        let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        // what is read for the first time is in memory then
        self.psql(&[], &paths);
        let timed = |run: &dyn Fn()| {
            let started = Instant::now();
            run();
            ms(started.elapsed())
        };
        let mut longest = Vec::new();
        let rounds: Vec<[f64; 4]> = (0..ROUNDS)
            .map(|_| {
                let each = timed(&|| paths.iter().for_each(|path| self.psql(&[], &[path])));
                let one = timed(&|| self.psql(&[], &paths));
                let two = timed(&|| self.two_psql(&paths));
                let (ours, of_longest) = self.verify(files);
                longest.push(of_longest);
                [each, one, two, ms(ours)]
            })
            .collect();
        let ways = [
            "psql -f, one after another",
            "one psql with all of the files",
            "two psql -f side by side",
            "db-race verify --jobs 2",
        ];
        for (i, way) in ways.iter().enumerate() {
            let took = median(rounds.iter().map(|round| round[i]));
            let ratios = rounds.iter().map(|round| round[i] / round[0]);
            let (least, most) = ratios
                .clone()
                .fold((f64::MAX, 0.0_f64), |(l, m), r| (l.min(r), m.max(r)));
            let ratio = median(ratios);
            println!("  {way:<31} {took:8.0} ms   {ratio:.2} of psql -f ({least:.2} to {most:.2})");
        }
        println!("  the longest check took {:.0} ms", median(longest.into_iter()));
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(seen: impl Iterator<Item = f64>) -> f64 {
    let mut seen: Vec<f64> = seen.collect();
    seen.sort_by(f64::total_cmp);
    seen[seen.len() / 2]
}
