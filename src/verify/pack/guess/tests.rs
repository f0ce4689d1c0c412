use super::*;
use crate::verify::pack::ForeignKey;

/// `id*:other state:enum(held,cancelled)`: columns with their categories; `*` is for the primary key.
fn table(name: &str, columns: &str) -> Table {
    let mut table = Table {
        name: format!("public.{name}"),
        word: name.into(),
        ..Table::default()
    };
    for column in columns.split(' ') {
        let (name, kind) = column.split_once(':').unwrap();
        let (kind, values) = kind.trim_end_matches(')').split_once('(').unwrap_or((kind, ""));
        if name.ends_with('*') {
            table.key.push(name.trim_end_matches('*').into());
        }
        let name = name.trim_end_matches('*');
        table.columns.push(TableColumn {
            name: name.into(),
            word: name.into(),
            category: match kind {
                "bool" => Category::Bool,
                "number" => Category::Number,
                "time" => Category::Time,
                "text" => Category::Text,
                "enum" => Category::Enum,
                "range" => Category::Range,
                _ => Category::Other,
            },
            allowed: values.split(',').filter(|v| !v.is_empty()).map(String::from).collect(),
            seen: Vec::new(),
        });
    }
    table
}

fn key(table: &str, column: &str, refers_to: &str) -> ForeignKey {
    ForeignKey {
        name: format!("{table}_{column}_fkey"),
        table: format!("public.{table}"),
        columns: vec![column.into()],
        refers_to: format!("public.{refers_to}"),
        referred: vec!["id".into()],
    }
}

fn pack(name: &str) -> Pack {
    Pack::bundled().unwrap().into_iter().find(|p| p.name == name).unwrap()
}

/// What was guessed: `booking.starts_at = lower(during)`, with ` ?` behind where it is doubtful.
fn lines(pack: &str, tables: Vec<Table>, foreign_keys: Vec<ForeignKey>) -> Vec<String> {
    let guess = guess(&self::pack(pack), &Catalog { tables, foreign_keys });
    let mut lines = Vec::new();
    for relation in &guess.relations {
        let of_table = [("from", &relation.from), ("where", &relation.filter)];
        let columns = relation.columns.iter().map(|(name, sql)| (&**name, sql));
        for (name, sql) in of_table.into_iter().chain(columns) {
            if let Some(sql) = sql {
                let mark = if sql.is_doubtful { " ?" } else { "" };
                lines.push(format!("{}.{name} = {}{mark}", relation.name, sql.sql));
            }
        }
    }
    lines
}

#[track_caller]
fn assert_has(lines: &[String], wanted: &[&str]) {
    for wanted in wanted {
        assert!(lines.iter().any(|l| l == wanted), "no `{wanted}` in {lines:#?}");
    }
}

#[track_caller]
fn assert_none(lines: &[String], begin: &str) {
    assert!(!lines.iter().any(|l| l.starts_with(begin)), "{begin}: {lines:#?}");
}

#[test]
fn states_ranges_foreign_keys_and_soft_deletion_are_understood() {
    let reservations =
        "id*:other berth:other customer:other during:range status:enum(held,Confirmed,cancelled) deleted_at:time";
    let lines = lines(
        "booking",
        vec![
            table("berths", "id*:other capacity:number"),
            table("reservations", reservations),
            table("customers", "id*:other name:text"),
            table("reservation_items", "id*:other reservation:other"),
        ],
        vec![
            key("reservations", "berth", "berths"),
            key("reservations", "customer", "customers"),
            key("reservation_items", "reservation", "reservations"),
        ],
    );
    assert_has(
        &lines,
        &[
            "booking.from = public.reservations",
            "booking.booking_id = id",
            "booking.resource_id = berth",
            "booking.starts_at = lower(during)",
            "booking.ends_at = upper(during)",
            "booking.is_active = status in ('held', 'Confirmed') and deleted_at is null ?",
            "booking.is_cancelled = status = 'cancelled' and deleted_at is null ?",
            "booking_item.booking_id = reservation",
            "resource.from = public.berths ?",
            "resource.capacity = capacity",
        ],
    );
    assert_none(&lines, "hold.");
    // nothing else refers to its rows
    let items = vec![
        table("bookings", "id*:other room_id:other starts_at:time confirmed:bool"),
        table("booking_items", "id*:other booking_id:other deleted_at:time"),
    ];
    let lines = self::lines("booking", items, vec![]);
    assert_has(&lines, &["booking_item.where = deleted_at is null ?"]);
}

#[test]
fn times_tell_what_states_would() {
    let bookings = "id*:other room_id:other starts_at:time ends_at:time cancelled_at:time released_at:time";
    let lines = lines("booking", vec![table("bookings", bookings)], vec![]);
    assert_has(
        &lines,
        &[
            "booking.is_active = cancelled_at is null ?",
            "booking.is_cancelled = cancelled_at is not null ?",
        ],
    );
    assert_none(&lines, "booking.is_confirmed");
}

#[test]
fn types_decide_between_names() {
    let bookings = "id*:other quantity:text starts_at:text room_id:other seats:number confirmed:bool";
    let lines = lines("booking", vec![table("bookings", bookings)], vec![]);
    assert_has(&lines, &["booking.party = seats"]);
    assert_none(&lines, "booking.starts_at");
}

#[test]
fn of_a_table_with_other_rows_only_those_of_some_states_count() {
    let tables = vec![
        table("orders", "id*:other total:number paid:bool"),
        table(
            "payments",
            "id*:other order_id:other amount:number status:text(failed,succeeded) created_at:time",
        ),
        table("refunds", "id*:other payment_id:other amount:number"),
    ];
    let lines = lines("payments", tables, vec![key("refunds", "payment_id", "payments")]);
    assert_has(
        &lines,
        &[
            "capture.from = public.payments ?",
            "capture.where = status = 'succeeded' ?",
        ],
    );
    assert_none(&lines, "payment.where");
}

#[test]
fn a_name_alone_is_not_enough_for_a_table() {
    let users = table("accounts", "id*:other email:text");
    assert_eq!(lines("ledger", vec![users], vec![]), [""; 0]);
    let two = vec![
        table("old_bookings", "id*:other room_id:other starts_at:time ends_at:time"),
        table(
            "bookings",
            "id*:other room_id:other starts_at:time ends_at:time active:bool",
        ),
    ];
    let lines = lines("booking", two, vec![]);
    assert_has(
        &lines,
        &["booking.from = public.bookings ?", "booking.is_active = active"],
    );
}

#[test]
fn a_constant_does_not_stand_for_what_another_table_tells_apart() {
    let stock = |columns: &str| {
        let reservations = "id*:other sku:text quantity:number status:text(open,done) expires_at:time";
        let tables = vec![table("stock", columns), table("reservations", reservations)];
        lines("inventory", tables, vec![])
    };
    let one_place = stock("sku*:text on_hand:number reserved:number");
    assert_has(
        &one_place,
        &["stock.location_id = 'here' ?", "reservation.location_id = 'here' ?"],
    );
    let places = stock("sku*:text warehouse_id*:other on_hand:number reserved:number");
    assert_has(&places, &["stock.location_id = warehouse_id"]);
    assert_none(&places, "reservation.location_id");
}

#[test]
fn tenants_are_gathered_from_all_tables_and_foreign_keys() {
    let tables = vec![
        table("customers", "id*:other org_id:other"),
        table("countries", "id*:other name:text"),
        table("orders", "org_id*:other no*:number customer_id:other country_id:other"),
        table("lines", "id*:other org_id:other order_no:number"),
        table("organizations", "id*:other name:text"),
    ];
    let mut safe = key("lines", "order_no", "orders");
    safe.columns = vec!["org_id".into(), "order_no".into()];
    safe.referred = vec!["org_id".into(), "no".into()];
    let keys = vec![
        key("orders", "customer_id", "customers"),
        key("orders", "country_id", "countries"),
        key("customers", "org_id", "organizations"),
        safe,
    ];
    let lines = lines("tenants", tables, keys);
    let of = |name: &str| lines.iter().find(|l| l.starts_with(name)).unwrap();
    let owned = of("owned.from");
    assert_eq!(owned.matches("select").count(), 3, "{owned}");
    for part in [
        "select 'public.customers' as table_name, id::text as row_id, org_id::text as tenant_id from public.customers",
        "select 'public.orders' as table_name, concat_ws(',', org_id, no) as row_id, org_id::text as tenant_id",
    ] {
        assert!(owned.contains(part), "{owned}");
    }
    // the key of lines has the tenant in it, and can't cross
    let link = of("link.from");
    assert_eq!(link.matches("select").count(), 1, "{link}");
    let join = "from public.orders as c join public.customers as p on p.id = c.customer_id";
    assert!(link.contains(join), "{link}");
}
