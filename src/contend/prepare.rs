//! Before a race: the scenario's SQL against the server that will run it.

use tokio_postgres::error::ErrorPosition;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::ContendError;
use super::draw::{Origin, TextRow};
use crate::postgres::{explain, lost, readable};
use crate::scenario::{Group, Located, Plan, Refusal, Statement, Step, unknown_parameter};
use crate::source::{Diagnostic, offset_of, quoted};

/// Sent only when every statement of the transaction was answered without an error. No step can begin or end a transaction
/// (`scenario/group.rs`), and no procedure can within one (SQLSTATE 2D000). Should it be aborted all the same, the server answers
/// ROLLBACK, without an error: that is looked at.
pub(super) const COMMIT: &str = "COMMIT";

/// What the server says of the scenario's SQL.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) key_columns: Vec<String>,
    /// By group and step: where each `$n` comes from.
    pub(crate) origins: Vec<Vec<Vec<Origin>>>,
    /// By group and step: the columns it returns.
    pub(crate) columns: Vec<Vec<Vec<String>>>,
    /// By group and step: whether anything looks at its first row.
    pub(crate) captures: Vec<Vec<bool>>,
    /// By group: the number of its first statement; the others follow.
    pub(crate) first_statement: Vec<usize>,
    /// By group: what begins its transactions, and the number it is prepared under.
    pub(crate) begin: Vec<Option<(usize, String)>>,
    /// The number that COMMIT is prepared under.
    pub(crate) commit: usize,
    /// The number that the start gate's statement is prepared under.
    pub(crate) start: usize,
    /// By group: what a deferred constraint refuses at COMMIT may be expected of any step.
    pub(crate) commit_refusals: Vec<Vec<Refusal>>,
    /// By group: what gives a connection its settings; none where no group has any.
    pub(crate) settings: Vec<Option<String>>,
    /// By group: where each `$n` of its `settle` comes from.
    pub(crate) settle: Vec<Vec<Origin>>,
}

/// Runs the scenario's setup.
pub(crate) async fn setup(client: &Client, plan: &Plan) -> Result<(), ContendError> {
    let Some(setup) = &plan.setup else { return Ok(()) };
    let done = client.batch_execute(&setup.text).await;
    done.map_err(|error| sql_error(plan, setup, &Statement::parse(""), &setup.text, &error))
}

/// The keys as they are now; the column names are those of [`Prepared`].
pub(crate) async fn keys(client: &Client, plan: &Plan) -> Result<Vec<TextRow>, ContendError> {
    let Some(keys) = &plan.keys else { return Ok(Vec::new()) };
    let sql = &keys.sql.text;
    // text for every type: only the simple protocol gives it, and prepare() has seen that it is one statement
    let messages = client.simple_query(sql).await;
    let messages = messages.map_err(|error| sql_error(plan, &keys.sql, &Statement::parse(""), sql, &error))?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(String::from)).collect()),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

/// The tables that the scenario names for the write gate, quoted and qualified.
pub(crate) async fn gate_tables(client: &Client, plan: &Plan) -> Result<Vec<String>, ContendError> {
    let mut tables = Vec::new();
    for table in &plan.gate_tables {
        let sql = "select to_regclass($1)::text";
        let found = client.query_one(sql, &[&table.text]).await;
        let found: Option<String> = found.map_err(|error| ContendError::Lost(explain(&error)))?.get(0);
        let wrong = || {
            plan.source
                .error(table.span.clone(), format!("there is no table `{}`", table.text))
        };
        tables.push(found.ok_or_else(wrong)?);
    }
    Ok(tables)
}

/// Prepares every statement once, and finds out who provides its parameters.
pub(crate) async fn prepare(client: &Client, plan: &Plan) -> Result<Prepared, ContendError> {
    let mut key_columns = Vec::new();
    if let Some(keys) = &plan.keys {
        let statement = client.prepare(&keys.sql.text).await;
        let statement =
            statement.map_err(|error| sql_error(plan, &keys.sql, &Statement::parse(""), &keys.sql.text, &error))?;
        key_columns = statement.columns().iter().map(|c| c.name().to_string()).collect();
    }
    let mut origins: Vec<Vec<Vec<Origin>>> = Vec::new();
    let mut columns = Vec::new();
    let mut settle = Vec::new();
    for group in &plan.groups {
        let mut results: Vec<Vec<(String, tokio_postgres::types::Type)>> = Vec::new();
        let mut of_steps = Vec::new();
        for step in &group.steps {
            let prepared = client.prepare(&step.statement.sql).await;
            let prepared =
                prepared.map_err(|error| sql_error(plan, &step.at, &step.statement, &step.statement.sql, &error))?;
            let mut of_step = Vec::new();
            for name in &step.statement.names {
                of_step.push(origin(plan, step, name, &key_columns, &results)?);
            }
            of_steps.push(of_step);
            let column = |c: &tokio_postgres::Column| (c.name().to_string(), c.type_().clone());
            results.push(prepared.columns().iter().map(column).collect());
            check_refusals(plan, step, prepared.columns())?;
        }
        origins.push(of_steps);
        let mut of_settle = Vec::new();
        if let Some(step) = &group.settle {
            let prepared = client.prepare(&step.statement.sql).await;
            prepared.map_err(|error| sql_error(plan, &step.at, &step.statement, &step.statement.sql, &error))?;
            for name in &step.statement.names {
                // what an attempt was told may be lost with its connection
                of_settle.push(origin(plan, step, name, &key_columns, &[])?);
            }
        }
        settle.push(of_settle);
        let names = |columns: &Vec<(String, _)>| columns.iter().map(|(name, _)| name.clone()).collect();
        columns.push(results.iter().map(names).collect());
    }
    let captures = plan.groups.iter().zip(&origins).map(|(group, origins)| {
        let looked_at = |i: usize| {
            let later = origins.iter().flatten();
            later
                .into_iter()
                .any(|o| matches!(o, Origin::Result { step, .. } if *step == i))
        };
        let refuses = |step: &Step| step.reject.iter().any(|r| !matches!(r, Refusal::Error { .. }));
        let steps = group.steps.iter().enumerate();
        steps.map(|(i, step)| looked_at(i) || refuses(step)).collect()
    });
    let steps = plan.groups.iter().map(|g| g.steps.len()).sum::<usize>();
    let first_statement = plan.groups.iter().scan(0, |next, group| {
        let first = *next;
        *next += group.steps.len();
        Some(first)
    });
    let any_settings = plan.groups.iter().any(|g| !g.settings.is_empty());
    Ok(Prepared {
        captures: captures.collect(),
        first_statement: first_statement.collect(),
        begin: (steps..)
            .zip(&plan.groups)
            .map(|(number, g)| Some((number, g.transaction?.begin())))
            .collect(),
        commit: steps + plan.groups.len(),
        start: steps + plan.groups.len() + 1,
        commit_refusals: plan
            .groups
            .iter()
            .map(|g| g.steps.iter().flat_map(|s| s.reject.iter().cloned()).collect())
            .collect(),
        settings: plan.groups.iter().map(|g| any_settings.then(|| settings(g))).collect(),
        key_columns,
        origins,
        columns,
        settle,
    })
}

/// Sets what the group sets, and resets what another group of the same pool may have set.
fn settings(group: &Group) -> String {
    let mut sql =
        String::from("RESET lock_timeout; RESET statement_timeout; RESET idle_in_transaction_session_timeout");
    for (name, value) in &group.settings {
        sql.push_str(&format!("; SET {name} = '{value}'"));
    }
    sql
}

/// The columns that a refusal looks at are there, and can be read.
fn check_refusals(plan: &Plan, step: &Step, columns: &[tokio_postgres::Column]) -> Result<(), Diagnostic> {
    for refusal in &step.reject {
        let Refusal::Row(wanted) = refusal else { continue };
        for (name, _) in wanted {
            let found = columns.iter().find(|c| c.name() == name);
            if found.is_some_and(|c| readable(c.type_())) {
                continue;
            }
            let names: Vec<&str> = columns.iter().map(|c| c.name()).collect();
            let message = match found {
                Some(c) => format!(
                    "`reject` looks at the column `{name}`, whose type {} can't be read",
                    c.type_()
                ),
                None => format!("`reject` looks at the column `{name}`, which the step does not return"),
            };
            let diagnostic = plan.source.error(step.at.span.clone(), message);
            return Err(diagnostic
                .label(format!("returns {}", quoted(&names)))
                .suggest(name, names));
        }
    }
    Ok(())
}

/// The nearest that provides the name: the latest step, the key, a declared parameter, a built-in.
fn origin(
    plan: &Plan,
    step: &Step,
    name: &str,
    key_columns: &[String],
    results: &[Vec<(String, tokio_postgres::types::Type)>],
) -> Result<Origin, Diagnostic> {
    for (of_step, columns) in results.iter().enumerate().rev() {
        let Some(column) = columns.iter().position(|(c, _)| c == name) else {
            continue;
        };
        let ty = &columns[column].1;
        if !readable(ty) {
            let place = step.statement.first_use(name).unwrap_or(0..0);
            return Err(step
                .at
                .error(
                    &plan.source,
                    place,
                    format!("`:{name}` comes from a column of type {ty}, which can't be captured"),
                )
                .help(format!("cast it in the step that returns it: `{name}::text as {name}`")));
        }
        return Ok(Origin::Result { step: of_step, column });
    }
    if let Some(column) = key_columns.iter().position(|c| c == name) {
        return Ok(Origin::Key(column));
    }
    if let Some(param) = plan.params.iter().position(|p| p.name == name) {
        return Ok(Origin::Param(param));
    }
    match name {
        "session" => Ok(Origin::Session),
        "iteration" => Ok(Origin::Iteration),
        "round" => Ok(Origin::Round),
        _ => {
            let known: Vec<&str> = results
                .iter()
                .flatten()
                .map(|(c, _)| c.as_str())
                .chain(key_columns.iter().map(String::as_str))
                .chain(plan.params.iter().map(|p| p.name.as_str()))
                .chain(["session", "iteration", "round"])
                .collect();
            Err(unknown_parameter(plan, step, name, &known))
        }
    }
}

/// An error of the scenario's SQL, shown at its place in the file.
fn sql_error(
    plan: &Plan,
    at: &Located,
    statement: &Statement,
    sent: &str,
    error: &tokio_postgres::Error,
) -> ContendError {
    let Some(db) = error.as_db_error().filter(|_| !lost(error)) else {
        return ContendError::Lost(explain(error));
    };
    let offset = match db.position() {
        Some(ErrorPosition::Original(position)) if statement.sql == sent => statement.offset_of(*position),
        Some(ErrorPosition::Original(position)) => offset_of(sent, *position),
        _ => 0,
    };
    let word = at.text[offset.min(at.text.len())..]
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .map_or(at.text.len(), |len| offset + len);
    let mut diagnostic = at
        .error(&plan.source, offset..word, db.message())
        .label(format!("SQLSTATE {}", db.code().code()));
    let context = [db.detail(), db.hint(), db.where_()];
    let context: Vec<&str> = context.into_iter().flatten().collect();
    if !context.is_empty() {
        diagnostic = diagnostic.help(context.join("\n"));
    }
    ContendError::Scenario(diagnostic.into())
}
