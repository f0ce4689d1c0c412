//! One check on one connection.
//!
//! A check runs behind a savepoint, so that an error or a timeout ends the check and not the snapshot. Two round trips: the first begins,
//! declares a cursor for the check and asks for the names of its columns; the second gets the rows. The cursor is not read from: declaring it
//! shows that the text is one query, and where it is wrong. Nothing is prepared under a name, which a pooler would keep for somebody else.

use std::fmt::Write;

use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::board::Range;
use super::judge::{self, Rows};
use super::snapshot::Worker;
use super::sql::{self, Asked, Columns};
use super::{chunk, require};
use crate::postgres::explain;
use crate::source::{count_statements, leading_words, offset_of};
use crate::verify::{Check, Finding, Grace, Key, MASKED, Options, SAMPLE};

/// What a worker begins with, and comes back to.
pub(super) const SAVEPOINT: &str = "SAVEPOINT db_race_check";
pub(super) const ROLLBACK: &str = "ROLLBACK TO SAVEPOINT db_race_check";
pub(super) const ROLLBACK_AND_UNLOCK: &str =
    "ROLLBACK TO SAVEPOINT db_race_check; SELECT pg_catalog.pg_advisory_unlock_all()";
pub(super) const RELEASE: &str = "ROLLBACK TO SAVEPOINT db_race_check; RELEASE SAVEPOINT db_race_check";

/// Keys that are kept of a check that counts all of its rows.
const KEYS_MAX: u64 = 100_000;

/// What is looked for.
pub(super) struct Look<'a> {
    pub(super) check: &'a Check,
    pub(super) options: &'a Options,
    /// The snapshot's time.
    pub(super) taken_at: &'a str,
    pub(super) range: Option<Range>,
    /// Whether the server may spread it over several processes.
    pub(super) may_spread: bool,
    /// Only rows with these keys count.
    pub(super) only: Option<&'a [Key]>,
}

/// What was seen.
pub(super) enum Seen {
    Rows { rows: Rows, total: Option<u64> },
    Ranges(Vec<Range>),
    Skipped(String),
}

/// Why nothing was.
pub(super) enum Trouble {
    /// By the server's words.
    Server(Error),
    /// By ours.
    Said(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Server(error)
    }
}

const DECLARE: &str = "DECLARE db_race_check NO SCROLL CURSOR FOR\n";

pub(super) async fn look(worker: &Worker, look: &Look<'_>) -> Result<Seen, Trouble> {
    let client: &Client = &worker.connection;
    let check = look.check;
    let begin = begin(worker, look);
    if require::is_wanted(check) || check.chunk.is_some() && look.range.is_none() {
        begin.await?;
        if let Some(why) = require::missing(client, &check.requires).await? {
            return Ok(Seen::Skipped(why));
        }
        if let (Some(walked), None) = (&check.chunk, look.range) {
            return Ok(Seen::Ranges(chunk::ranges(client, walked).await?));
        }
        let names = declare(client, check).await?;
        return fetch(client, look, names).await;
    }
    let (begun, names) = futures_util::future::join(begin, declare(client, check)).await;
    begun?;
    fetch(client, look, names?).await
}

/// Behind the savepoint, with the check's time limit and parameters.
pub(super) async fn begin(worker: &Worker, look: &Look<'_>) -> Result<(), Error> {
    let (client, back): (&Client, _) = (&worker.connection, worker.back());
    let timeout = look.check.timeout.unwrap_or(look.options.timeout).as_millis();
    let mut begin = format!("{back}; SET LOCAL statement_timeout = {timeout}");
    if !look.may_spread {
        begin.push_str("; SET LOCAL max_parallel_workers_per_gather = 0");
    }
    if look.check.row_security {
        begin.push_str("; SET LOCAL row_security = on");
    }
    let params = params(look);
    // the requests are sent in this order, and answered together
    let (begun, set) = futures_util::future::join(client.batch_execute(&begin), set(client, &params)).await;
    begun.and(set)
}

/// The check's parameters as they are set: `race.<name>`.
fn params(look: &Look<'_>) -> Vec<(String, String)> {
    let own = look.check.params.iter().map(|(name, value)| {
        let value = look.options.params.get(name).unwrap_or(value);
        (format!("race.{name}"), value.clone())
    });
    let range = look.range.iter().flat_map(|range| {
        let set = |name: &str, at: i64| (format!("race.{name}"), at.to_string());
        [set("chunk_from", range.from), set("chunk_to", range.to)]
    });
    own.chain(range).collect()
}

async fn set(client: &Client, params: &[(String, String)]) -> Result<(), Error> {
    if params.is_empty() {
        return Ok(());
    }
    let mut sql = "SELECT ".to_string();
    let mut values: Vec<(&(dyn ToSql + Sync), Type)> = Vec::new();
    for (i, (name, value)) in params.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let _ = write!(
            sql,
            "{comma}pg_catalog.set_config(${}, ${}, true)",
            2 * i + 1,
            2 * i + 2
        );
        values.push((name, Type::TEXT));
        values.push((value, Type::TEXT));
    }
    client.query_typed(&sql, &values).await.map(|_| ())
}

/// The names of a check's columns. The check isn't run.
pub(super) async fn declare(client: &Client, check: &Check) -> Result<Vec<String>, Trouble> {
    let (body, _) = check.statement();
    // in the extended protocol, which takes one statement only
    let sql = format!("{DECLARE}{body}");
    let declared = client.query_typed(&sql, &[]);
    let named = client.simple_query("FETCH FORWARD 0 FROM db_race_check; CLOSE db_race_check");
    let (declared, named) = futures_util::future::join(declared, named).await;
    declared.map_err(|error| wrong(check, &body, error))?;
    let names = named?.into_iter().find_map(|message| match message {
        SimpleQueryMessage::RowDescription(columns) => Some(columns.iter().map(|c| c.name().to_string()).collect()),
        _ => None,
    });
    match names {
        Some(names) if !Vec::is_empty(&names) => Ok(names),
        _ => Err(Trouble::Said("it returns no columns".into())),
    }
}

/// What is wrong with a statement, and where.
fn wrong(check: &Check, body: &str, error: Error) -> Trouble {
    let Some(db) = error.as_db_error() else {
        return Trouble::Server(error);
    };
    let is_syntax = db.code().code() == "42601";
    let statements = count_statements(body);
    if is_syntax && statements != 1 {
        let count = if statements == 0 { "no" } else { "more than one" };
        return Trouble::Said(format!("it has {count} statement; a check is one query"));
    }
    let first = leading_words(body).next().unwrap_or_default().to_ascii_lowercase();
    if is_syntax && !first.is_empty() && !["select", "with", "values", "table"].contains(&&*first) {
        return Trouble::Said(format!(
            "it is no query but `{first}`; a check is one SELECT, VALUES, TABLE or WITH ... SELECT"
        ));
    }
    match db.position() {
        Some(ErrorPosition::Original(at)) => {
            let sent = format!("{DECLARE}{body}");
            let offset = offset_of(&sent, *at).saturating_sub(DECLARE.len());
            Trouble::Said(format!("{} ({})", explain(&error), check.place_of(offset)))
        }
        _ => Trouble::Server(error),
    }
}

async fn fetch(client: &Client, look: &Look<'_>, names: Vec<String>) -> Result<Seen, Trouble> {
    let (check, options) = (look.check, look.options);
    let grace = check.grace.as_ref().filter(|_| !options.settled);
    let columns = Columns::of(check, grace, names).map_err(Trouble::Said)?;
    let sample = options.sample.or(check.sample).unwrap_or(SAMPLE);
    let cap = judge::cap(check, None, sample);
    let (body, _) = check.statement();
    let wants_keys = options.keep_keys || check.confirm.is_some() && !options.settled;
    let mut wanted = cap.unwrap_or(sample as u64).max(sample as u64);
    if wants_keys {
        wanted = wanted.max(cap.unwrap_or(KEYS_MAX).min(KEYS_MAX));
    }
    let asked = Asked {
        body: &body,
        columns: &columns,
        grace: grace.map(|g| g.time),
        sample: sample as u64,
        rows_max: wanted + 1,
        all_keys: wants_keys,
        only_known: look.only.is_some(),
    };
    // as the server makes them of each row
    let known = look.only.map(|keys| serde_json::json!(keys).to_string());
    let mut params: Vec<(&(dyn ToSql + Sync), Type)> = Vec::new();
    if asked.grace.is_some() {
        params.push((&look.taken_at, Type::TEXT));
    }
    if let Some(known) = &known {
        params.push((known, Type::TEXT));
    }
    let read = read(client, &asked, &params, wanted).await;
    let (mut rows, mut is_more) = read.map_err(|trouble| about_grace(grace, trouble))?;
    let mut total = None;
    let mut cap = cap;
    if judge::wants_total(check) && rows.count + rows.pending > 0 {
        total = Some(total_of(client, check.of.as_deref().unwrap_or_default()).await?);
        cap = judge::cap(check, total, sample);
    }
    if is_more && cap.is_none_or(|cap| cap > wanted) {
        let row = client.query_typed_one(&sql::count(&asked), &params).await?;
        let count = |i: usize| row.get::<_, i64>(i).unsigned_abs();
        (rows.count, rows.pending, is_more) = (count(0), count(1), false);
    }
    rows.is_capped = is_more && rows.count > cap.unwrap_or(u64::MAX);
    Ok(Seen::Rows {
        rows: rows.capped(cap, sample),
        total,
    })
}

/// Whether a time has an end is asked of what is no time.
pub(super) fn about_grace(grace: Option<&Grace>, trouble: Trouble) -> Trouble {
    match (grace, &trouble) {
        (Some(grace), Trouble::Server(error)) if error.code().is_some_and(|code| code.code() == "42883") => {
            Trouble::Said(format!(
                "the grace column `{}` is no date and no timestamp",
                grace.column
            ))
        }
        _ => trouble,
    }
}

/// The rows, and whether there are more than so many of a kind.
async fn read(
    client: &Client,
    asked: &Asked<'_>,
    params: &[(&(dyn ToSql + Sync), Type)],
    wanted: u64,
) -> Result<(Rows, bool), Trouble> {
    let sql = sql::rows(asked);
    let params = params.iter().map(|(value, kind)| (*value, kind.clone()));
    let stream = client.query_typed_raw(&sql, params).await?;
    pin_mut!(stream);
    let columns = asked.columns;
    let value_max = columns.value_max();
    let mut rows = Rows::default();
    while let Some(row) = stream.try_next().await? {
        let pending: bool = row.try_get(0)?;
        let n = match pending {
            true => &mut rows.pending,
            false => &mut rows.count,
        };
        *n += 1;
        let nth = *n;
        if nth > wanted || nth > asked.sample && !asked.all_keys {
            continue;
        }
        let mut values: Vec<Option<String>> = vec![Some(MASKED.into()); columns.names.len()];
        for (at, i) in columns.shown().enumerate() {
            values[i] = row.try_get(at + 1)?;
        }
        let key: Key = columns.key.iter().map(|i| values[*i].clone()).collect();
        if asked.all_keys {
            match pending {
                true => rows.keys_pending.push(key.clone()),
                false => rows.keys.push(key.clone()),
            }
        }
        if nth <= asked.sample {
            let shown = values.into_iter().map(|value| value.map(|text| cut(text, value_max)));
            rows.findings.push(Finding {
                key,
                row: columns.names.iter().cloned().zip(shown).collect(),
                pending,
            });
        }
    }
    let is_more = rows.count > wanted || rows.pending > wanted;
    Ok((rows, is_more))
}

/// What percentages are percentages of.
async fn total_of(client: &Client, sql: &str) -> Result<u64, Trouble> {
    let sql = format!("SELECT (\n{}\n)::int8", crate::source::without_end(sql));
    let said = |why: String| Trouble::Said(format!("`of` gives no number: {why}"));
    let row = client
        .query_typed_one(&sql, &[])
        .await
        .map_err(|error| match error.as_db_error() {
            Some(_) => said(explain(&error)),
            None => Trouble::Server(error),
        })?;
    match row.try_get::<_, Option<i64>>(0)? {
        Some(total) if total >= 0 => Ok(total.unsigned_abs()),
        Some(total) => Err(said(format!("{total} is negative"))),
        None => Err(said("it is NULL".into())),
    }
}

fn cut(text: String, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
