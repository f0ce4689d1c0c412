//! Packs of checks, their maps and `db-race init`, by command and on a real server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::database::Database;
use common::{Sandbox, TestServer, project};
use db_race::source::Source;
use db_race::verify::pack::{self, Pack};
use serde_json::Value;

/// A marina: other names, a range, uuids, camel case, soft deletion.
const MARINA: &str = r#"
create type stay_status as enum ('requested', 'held', 'confirmed', 'cancelled');
create table berths (id uuid primary key, label text not null, capacity int not null);
create table "Reservations" (
    id uuid primary key,
    "berthId" uuid not null references berths,
    during tstzrange not null,
    status stay_status not null,
    deleted_at timestamptz
);
create table reservation_items (
    id bigint generated always as identity primary key,
    reservation_id uuid references "Reservations"
);
"#;

/// Two stays that overlap, one after them, and one in both that was deleted.
const STAYS: &str = r#"
insert into berths values ('00000000-0000-0000-0000-000000000001', 'A1', 1);
insert into "Reservations"
select format('00000000-0000-0000-0000-0000000000a%s', n)::uuid, '00000000-0000-0000-0000-000000000001', during, state, deleted
from (values
    (1, tstzrange('2030-06-01', '2030-06-05'), 'confirmed'::stay_status, null::timestamptz),
    (2, tstzrange('2030-06-04', '2030-06-06'), 'held', null),
    (3, tstzrange('2030-06-01', '2030-06-06'), 'confirmed', now()),
    (4, tstzrange('2030-06-06', '2030-06-08'), 'confirmed', null),
    (5, tstzrange('2030-06-01', '2030-06-08'), 'cancelled', null)
) as t (n, during, state, deleted);
insert into reservation_items (reservation_id) select id from "Reservations" where status = 'confirmed';
"#;

/// A shop, as frameworks name things.
const SHOP: &str = r#"
create schema shop;
create type shop.order_status as enum ('pending','paid','shipped','cancelled');
create table shop.customers (id bigserial primary key, email text);
create table shop.products (id bigserial primary key, name text);
create table shop.orders (id bigserial primary key, customer_id bigint references shop.customers, status shop.order_status not null, total_cents bigint, created_at timestamptz default now(), updated_at timestamptz);
create table shop.order_items (id bigserial primary key, order_id bigint references shop.orders, product_id bigint references shop.products, quantity int, shipped_at timestamptz);
create table shop.inventory_levels (product_id bigint references shop.products, warehouse_id int, quantity_on_hand int, quantity_reserved int, primary key (product_id, warehouse_id));
create table shop.inventory_movements (id bigserial primary key, product_id bigint references shop.products, warehouse_id int, delta int, reason text, order_item_id bigint references shop.order_items, created_at timestamptz);
create table shop.payments (id bigserial primary key, order_id bigint references shop.orders, amount_cents bigint, status text check (status in ('processing','succeeded','failed')), created_at timestamptz, updated_at timestamptz);
create table shop.refunds (id bigserial primary key, payment_id bigint references shop.payments, amount_cents bigint);
create table shop.idempotency_keys (id bigserial primary key, user_id bigint, idempotency_key text, request_hash text, locked_at timestamptz, completed_at timestamptz);
create table shop.webhook_events (id bigserial primary key, provider text, external_id text, processed_at timestamptz);
create table shop.jobs (id bigserial primary key, state text, locked_until timestamptz, attempts int, max_attempts int, finished_at timestamptz);
insert into shop.jobs(state) select (array['queued','running','completed','failed'])[1+n%4] from generate_series(1,1000) n;
create table shop.outbox_events (id bigserial primary key, aggregate_id uuid, payload jsonb, created_at timestamptz, published_at timestamptz);
create table shop.wallets (id bigserial primary key, user_id bigint, balance_cents bigint);
create table shop.wallet_transactions (id bigserial primary key, reference text, created_at timestamptz);
create table shop.wallet_entries (id bigserial primary key, wallet_id bigint references shop.wallets, transaction_id bigint references shop.wallet_transactions, amount_cents bigint, created_at timestamptz);
analyze;
"#;

fn database(server: &TestServer, name: &str, sql: &str) -> String {
    server.exec(&format!("create database {name}"));
    let url = server.url_of(&format!("postgres@/{name}"));
    Database::connect(&url).exec(sql);
    url
}

/// A check's result in a report.
#[track_caller]
fn of<'a>(report: &'a Value, id: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["id"] == id);
    found.unwrap_or_else(|| panic!("no {id}: {checks:#?}"))
}

fn keys(result: &Value) -> Vec<String> {
    let findings = result["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["key"].to_string()).collect()
}

fn decisions(report: &Value, decision: &str) -> BTreeSet<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let these = checks.filter(|check| check["decision"] == decision);
    these.map(|check| check["id"].as_str().unwrap().to_string()).collect()
}

fn hotel() -> String {
    let read = |file: &str| fs::read_to_string(project().join("sql/hotel").join(file)).unwrap();
    ["schema.sql", "procedures.sql", "seed.sql"].map(read).join("\n")
}

#[test]
fn a_check_reads_nothing_but_what_it_says_it_needs() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    for pack in Pack::bundled().unwrap() {
        let folder = project().join("checks/packs").join(&pack.name).join("fixtures");
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        for check in pack.checks(&[]).unwrap() {
            let name = check.id.split('.').nth(1).unwrap();
            let fixture = read(&folder.join(format!("{name}.sql")));
            // only what it needs is mapped, and the pack's own names are nowhere in its search path
            let mut map = format!("pack = '{}'\n", pack.name);
            for (relation, columns) in &check.needs {
                map.push_str(&format!("[map.{relation}]\nfrom = 'mine.{relation}'\n"));
                columns.iter().for_each(|c| map.push_str(&format!("{c} = '{c}'\n")));
            }
            let mapped = pack::checks(&Source::new("map.toml", map), &[]).unwrap();
            let mapped = mapped.iter().find(|c| c.id == check.id).unwrap();
            assert_eq!(mapped.missing, None, "{}", check.id);
            server.exec(&format!(
                "set timezone = 'UTC'; begin; create schema mine; set local search_path = mine;\n{};\n{fixture};\n\
                 set local search_path = pg_catalog",
                read(&folder.join("schema.sql"))
            ));
            for (param, value) in &mapped.params {
                server.exec(&format!("select set_config('race.{param}', '{value}', true)"));
            }
            let key: Vec<String> = check.key.iter().map(|column| format!("{column}::text")).collect();
            let (statement, _) = mapped.statement();
            let rows = server.rows(&format!(
                "select json_build_array({})::text from ({statement}) as t",
                key.join(", ")
            ));
            server.exec("rollback");
            let found: BTreeSet<Vec<String>> = rows.iter().map(|row| serde_json::from_str(&row[0]).unwrap()).collect();
            let line = |begin: &str| fixture.lines().find_map(|line| line.strip_prefix(begin));
            let mut planted: BTreeSet<Vec<String>> = serde_json::from_str(line("-- finds: ").unwrap()).unwrap();
            planted.extend(line("-- pending: ").map_or(BTreeSet::new(), |keys| serde_json::from_str(keys).unwrap()));
            assert_eq!(found, planted, "{}", check.id);
        }
    }
}

#[test]
fn init_guesses_a_map_that_finds_what_is_wrong() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let url = database(&server, "marina", &format!("{MARINA}{STAYS}"));
    let run = sandbox.run(&format!("init --pack booking --url {url}")).exits(0);
    // rows that others refer to are not left out
    let map = fs::read_to_string(sandbox.dir().join("booking.toml")).unwrap();
    assert!(
        map.contains(r#"is_confirmed   = "status = 'confirmed' and deleted_at is null""#),
        "{map}"
    );
    for shown in [
        "7 of the 17 checks",
        "\n  db-race verify booking.toml --url URL\n",
        "lower(during)",
        "? ",
    ] {
        assert!(run.stdout.contains(shown), "{shown}\n{run}");
    }
    let report = sandbox
        .run(&format!(
            "verify booking.toml --allow-superuser --format json --url {url}"
        ))
        .exits(2)
        .json();
    let overlap = of(&report, "booking.overlap");
    assert_eq!(keys(overlap), [r#"["00000000-0000-0000-0000-0000000000a2"]"#]);
    assert_eq!(
        decisions(&report, "violated"),
        BTreeSet::from(["booking.over_capacity".into(), "booking.overlap".into()])
    );
    assert_eq!(decisions(&report, "held").len(), 5);
    let reason = of(&report, "booking.hold_booked_twice")["reason"]
        .as_str()
        .unwrap()
        .to_string();
    assert!(
        reason.contains("booking.toml lacks hold_id in [map.booking]"),
        "{reason}"
    );
    assert_eq!(decisions(&report, "could_not_decide").len(), 0);
}

#[test]
fn init_on_the_hotel_finds_an_overbooking() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let url = database(&server, "hotel", &hotel());
    for pack in ["inventory", "booking"] {
        sandbox.run(&format!("init --pack {pack} --url {url}")).exits(0);
    }
    let verify = format!("verify inventory.toml booking.toml --allow-superuser --format json --url {url}");
    let fresh = sandbox.run(&verify).json();
    assert_eq!(decisions(&fresh, "violated"), BTreeSet::new());
    assert_eq!(decisions(&fresh, "could_not_decide"), BTreeSet::new());
    Database::connect(&url).exec(
        "update room_inventory set booked_count = allotment, tentative_count = 1 where room_type_id = 1 and date = '2030-06-01'",
    );
    let report = sandbox.run(&verify).exits(2).json();
    assert_eq!(keys(of(&report, "inventory.oversold")), [r#"["1","2030-06-01"]"#]);
    assert_eq!(
        decisions(&report, "violated"),
        BTreeSet::from(["inventory.oversold".into()])
    );
}

#[test]
fn the_server_accepts_what_init_guesses_of_every_pack() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let url = database(&server, "shop", SHOP);
    let packs: Vec<String> = Pack::bundled().unwrap().into_iter().map(|pack| pack.name).collect();
    for pack in &packs {
        sandbox.run(&format!("init --pack {pack} --url {url}")).exits(0);
    }
    let maps: Vec<String> = packs.iter().map(|pack| format!("{pack}.toml")).collect();
    let verify = format!("verify {} --allow-superuser --format json --url {url}", maps.join(" "));
    let report = sandbox.run(&verify).json();
    assert_eq!(decisions(&report, "could_not_decide"), BTreeSet::new());
    assert_eq!(decisions(&report, "violated"), BTreeSet::new());
    let held = decisions(&report, "held");
    assert!(held.len() >= 24, "{held:?}");
    // one charge too many, among failed ones that don't count
    Database::connect(&url).exec(
        "insert into shop.orders (id, status, total_cents) values (1, 'paid', 500);
         insert into shop.payments (order_id, amount_cents, status, created_at, updated_at)
         select 1, 500, state, now(), now() from unnest(array['succeeded', 'failed', 'succeeded']) as state;
         insert into shop.products values (1);
         insert into shop.inventory_levels values (1, 1, 2, 3)",
    );
    let report = sandbox.run(&verify).exits(2).json();
    let found = [
        "inventory.negative_available",
        "payments.charged_again",
        "payments.paid_total_differs",
    ];
    for id in found {
        assert_eq!(of(&report, id)["count"], 1, "{id}");
    }
}

#[test]
fn init_gathers_all_tables_of_tenants() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let url = database(
        &server,
        "shared",
        r#"
create table organizations (id int primary key);
create table customers (id int primary key, org_id int references organizations);
create table "Orders" (no int, org_id int references organizations, customer_id int references customers, primary key (org_id, no));
create table countries (code text primary key);
insert into organizations values (1), (2);
insert into customers values (10, 1), (20, 2), (30, null);
insert into "Orders" values (1, 1, 10), (2, 1, 20), (1, 2, 20);
"#,
    );
    sandbox
        .run(&format!("init --pack tenants -o map.toml --url {url}"))
        .exits(0);
    let report = sandbox
        .run(&format!("verify map.toml --allow-superuser --format json --url {url}"))
        .exits(2)
        .json();
    assert_eq!(
        keys(of(&report, "tenants.without_tenant")),
        [r#"["public.customers","30"]"#]
    );
    assert_eq!(
        keys(of(&report, "tenants.crosses_tenants")),
        [r#"["public.\"Orders\".Orders_customer_id_fkey","1,2"]"#]
    );
    assert_eq!(of(&report, "tenants.unknown_tenant")["decision"], "held");
    // nobody's row-level security holds for a superuser
    assert_eq!(of(&report, "tenants.visible_without_tenant")["decision"], "skipped");
}

#[test]
fn init_never_overwrites_unasked_and_says_what_it_cannot_do() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    sandbox.write("booking.toml", "mine");
    let run = sandbox
        .run(&format!("init --pack booking --url {}", server.url()))
        .exits(64);
    assert!(run.stderr.contains("booking.toml is there already"), "{run}");
    assert_eq!(fs::read_to_string(sandbox.dir().join("booking.toml")).unwrap(), "mine");
    // an empty database: nothing is found, and the file still is a map
    sandbox
        .run(&format!("init --pack booking --force --url {}", server.url()))
        .exits(0);
    let listed = sandbox.run("list booking.toml").exits(0);
    assert!(listed.stdout.contains("booking/overlap"), "{listed}");
    let run = sandbox.run("init --pack bokking").exits(64);
    assert!(run.stderr.contains("did you mean `booking`?"), "{run}");
    let run = sandbox.run("init --pack ledger").exits(64);
    assert!(run.stderr.contains("say where it is by --url"), "{run}");
}

#[test]
fn mistakes_in_a_map_are_told_at_their_line() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let url = database(&server, "marina", MARINA);
    let map = |line: &str| {
        format!(
            "pack = 'booking'\n[map.booking]\nfrom = '\"Reservations\"'\nbooking_id = 'id'\nis_confirmed = 'true'\n{line}\n\
                 [map.booking_item]\nfrom = 'reservation_items'\nitem_id = 'id'\nbooking_id = 'reservation_id'\n"
        )
    };
    // the server doesn't know it
    for (line, said) in [
        (
            "is_cancelled = \"state = 'cancelled'\"",
            "column \"state\" does not exist",
        ),
        ("is_cancelled = '''\n\n status = '''", "syntax error"),
        (
            "is_cancelled = 'true'\nwhere = 'gone'",
            "column \"gone\" does not exist",
        ),
    ] {
        sandbox.write(
            "map.toml",
            &map(&format!("{line}\n")).replace("item_id", "is_active = 'true'\nitem_id"),
        );
        let report = sandbox
            .run(&format!("verify map.toml --allow-superuser --format json --url {url}"))
            .exits(3)
            .json();
        let at = 6 + line.trim_end_matches("'''").matches('\n').count();
        let reason = of(&report, "booking.cancelled_with_item")["reason"]
            .as_str()
            .unwrap()
            .to_string();
        assert!(reason.contains(said), "{line}: {reason}");
        assert!(
            reason.contains(&format!("map.toml line {at}, in the map of booking.")),
            "{line}: {reason}"
        );
    }
    // we don't
    sandbox.write("map.toml", &map("is_canceled = 'true'"));
    let run = sandbox.run(&format!("verify map.toml --url {url}")).exits(64);
    assert!(run.stderr.contains("map.toml:6:1"), "{run}");
    assert!(run.stderr.contains("did you mean `is_cancelled`?"), "{run}");
}

#[test]
fn tables_that_are_called_as_the_packs_own_stay_the_users() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let url = database(
        &server,
        "namesake",
        "create table booking (id int, state text); create table booking_item (id int, parent int);
         insert into booking values (1, 'confirmed'), (2, 'test'), (3, 'confirmed'); insert into booking_item values (1, 1), (2, 2)",
    );
    // the second relation speaks of both tables, not of the first relation, in which booking 2 is not
    sandbox.write(
        "map.toml",
        "pack = 'booking'\n[map.booking]\nfrom = 'booking'\nwhere = \"state <> 'test'\"\nbooking_id = 'id'\nis_confirmed = 'true'\n\
         [map.booking_item]\nfrom = 'booking_item as i join booking as b on b.id = i.parent'\nitem_id = 'i.id'\nbooking_id = 'b.id'\n\
         is_active = \"b.state <> 'gone'\"\n",
    );
    let report = sandbox
        .run(&format!("verify map.toml --allow-superuser --format json --url {url}"))
        .exits(2)
        .json();
    assert_eq!(keys(of(&report, "booking.item_without_booking")), [r#"["2"]"#]);
    assert_eq!(keys(of(&report, "booking.confirmed_without_item")), [r#"["3"]"#]);
}

#[test]
fn a_folder_has_its_own_checks_and_maps() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let url = database(&server, "marina", &format!("{MARINA}{STAYS}"));
    sandbox.write(
        "db/labels.sql",
        "-- /// db-race check\n-- id = \"db.labels\"\n-- title = \"t\"\n-- ///\nselect 1 from berths where label = ''",
    );
    sandbox.write("db/scenario.toml", "title = 'a race'");
    sandbox.write(
        "db/more/map.toml",
        "pack = 'booking'\n[map.booking]\nfrom = '\"Reservations\"'\nbooking_id = 'id'\nresource_id = '\"berthId\"'\n\
         starts_at = 'lower(during)'\nis_active = 'deleted_at is null'\n",
    );
    let report = sandbox
        .run(&format!("verify db --allow-superuser --format json --url {url}"))
        .exits(2)
        .json();
    assert_eq!(of(&report, "db.labels")["decision"], "held");
    assert_eq!(of(&report, "booking.two_in_a_slot")["decision"], "violated");
}

#[test]
fn a_pack_without_a_map_reads_its_own_names() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("verify booking").exits(64);
    assert!(run.stderr.contains("need a database"), "{run}");
    let server = sandbox.server();
    let schema = fs::read_to_string(project().join("checks/packs/booking/fixtures/schema.sql")).unwrap();
    let url = database(&server, "canonical", &schema);
    let report = sandbox
        .run(&format!("verify booking --allow-superuser --format json --url {url}"))
        .exits(0)
        .json();
    assert_eq!(
        decisions(&report, "held").len(),
        report["checks"].as_array().unwrap().len()
    );
    let run = sandbox
        .run(&format!(
            "verify booking/overlap --allow-superuser --url {}",
            server.url()
        ))
        .exits(3);
    assert!(
        run.stdout.contains("`db-race init --pack booking` maps them to yours"),
        "{run}"
    );
}
