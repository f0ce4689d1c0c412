//! SARIF 2.1.0, for code scanning.
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/sarif-v2.1.0-errata01-os-complete.html>
//!
//! A check is a rule, a row that breaks it is a result in the check's file. What could not be decided is no result but a
//! notification, so that no service takes it for a repaired bug.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::case::{Case, cases, database};
use super::escape::{value, visible};
use super::{Paths, Report};
use crate::verdict::{State, Undecided};
use crate::verify::{CheckResult, Finding};

/// Writes the report as a SARIF log of one run.
///
/// # Errors
/// When the writer fails.
pub fn write(report: &Report, exit_code: u8, paths: &Paths, out: &mut impl Write) -> io::Result<()> {
    let cases = cases(report);
    let mut rules: BTreeMap<String, Value> = BTreeMap::new();
    let mut results = Vec::new();
    let mut notifications = Vec::new();
    for case in &cases {
        let id = rule_id(report, case);
        rules.entry(id.clone()).or_insert_with(|| rule(&id, case));
        match case.state {
            State::Broken => results.extend(results_of(report, case, &id, paths)),
            State::NoData => notifications.push(notification(doubt(case), case, &id, paths)),
            State::Skipped => notifications.push(notification("note", case, &id, paths)),
            State::Held | State::Pending => {}
        }
    }
    // whatever the flags make of it: nothing may be taken for repaired that nobody could look at
    let is_decided = !cases.iter().any(|c| c.state == State::NoData);
    let log = json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "db-race",
                "semanticVersion": report.version,
                "rules": rules.into_values().collect::<Vec<_>>(),
            }},
            "automationDetails": { "id": format!("db-race {}/", report.command) },
            "invocations": [{
                "executionSuccessful": is_decided && exit_code <= 2,
                "exitCode": exit_code,
                "startTimeUtc": report.started_at,
                "toolExecutionNotifications": notifications,
            }],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    serde_json::to_writer_pretty(&mut *out, &log)?;
    writeln!(out)
}

/// A check's id; the rules of a race, which are called alike everywhere, with their scenario.
fn rule_id(report: &Report, case: &Case<'_>) -> String {
    match (case.check, &report.race) {
        (Some(check), _) => visible(&check.id).into_owned(),
        (None, Some(race)) => format!("{}: {}", visible(&race.scenario), case.name),
        (None, None) => case.name.clone(),
    }
}

fn rule(id: &str, case: &Case<'_>) -> Value {
    let title = visible(case.title.unwrap_or(id));
    let mut help = vec![match case.check {
        Some(_) => "A row that the check's query returns breaks the invariant.".to_string(),
        None => "A rule of the scenario.".to_string(),
    }];
    if let Some(check) = case.check {
        let known = [("remedy", &check.remedy), ("owner", &check.owner)];
        help.extend(
            known
                .iter()
                .filter_map(|(name, text)| Some(format!("{name}: {}", text.as_ref()?))),
        );
    }
    // GitHub wants all three
    let mut rule = json!({
        "id": id,
        "shortDescription": { "text": title },
        "fullDescription": { "text": title },
        "help": { "text": help.join("\n") },
        "defaultConfiguration": { "level": level(case) },
    });
    let Some(check) = case.check else { return rule };
    // the schema wants them unlike one another
    let mut tags = check.tags.clone();
    tags.sort();
    tags.dedup();
    rule["properties"] = json!({ "tags": tags });
    rule
}

fn level(case: &Case<'_>) -> &'static str {
    if case.warning { "warning" } else { "error" }
}

/// How a notification of what could not be decided is.
fn doubt(case: &Case<'_>) -> &'static str {
    match case.doubt {
        Undecided::Inconclusive | Undecided::Fails => "error",
        Undecided::Warns => "warning",
        Undecided::Passes => "note",
    }
}

fn results_of(report: &Report, case: &Case<'_>, id: &str, paths: &Paths) -> Vec<Value> {
    let result = |text: String, identity: &[&str], places: Value| {
        let print = fingerprint(identity);
        json!({
            "ruleId": id,
            "level": level(case),
            "message": { "text": text },
            "locations": [location(case, places, paths)],
            // GitHub knows only the second name
            "partialFingerprints": { "dbRaceKey/v1": print, "primaryLocationLineHash": format!("{print}:1") },
        })
    };
    let Some(check) = case.check else {
        let text = format!("{}: {}", case.name, case.measured);
        return vec![result(text, &[id], logical(&case.suite, "database"))];
    };
    let on = match report.race {
        Some(_) => case.suite.clone(),
        None => database(report, check),
    };
    let broken: Vec<&Finding> = check.findings.iter().filter(|f| !f.pending).collect();
    if broken.is_empty() {
        let text = format!("{}: {}", case.heading(), case.measured);
        return vec![result(text, &[id, &on], logical(&on, "database"))];
    }
    let one = |finding: &Finding| {
        let name = key(check, finding);
        let text = format!("{}: {}", visible(&check.title), row(finding));
        result(
            text,
            &[id, &on, &name],
            logical(&format!("{on}/{}", value(Some(&name))), "row"),
        )
    };
    broken.into_iter().map(one).collect()
}

fn logical(name: &str, kind: &str) -> Value {
    json!([{ "fullyQualifiedName": name, "kind": kind }])
}

fn location(case: &Case<'_>, places: Value, paths: &Paths) -> Value {
    let mut location = json!({ "logicalLocations": places });
    if let Some(place) = case.place {
        location["physicalLocation"] = json!({
            "artifactLocation": match place.is_bundled {
                true => json!({ "uri": Paths::default().uri(place.file) }),
                false => json!({ "uri": paths.uri(place.file), "uriBaseId": "%SRCROOT%" }),
            },
            // code scanning wants a line
            "region": { "startLine": place.line.unwrap_or(1) },
        });
    }
    location
}

fn notification(level: &str, case: &Case<'_>, id: &str, paths: &Paths) -> Value {
    let mut notification = json!({
        "level": level,
        "message": { "text": format!("{}: {}", case.heading(), case.measured) },
        "associatedRule": { "id": id },
    });
    if case.place.is_some() {
        notification["locations"] = json!([location(case, logical(&case.suite, "database"), paths)]);
    }
    notification
}

/// What identifies a row: the key, or all of it where the check has none.
fn key(check: &CheckResult, finding: &Finding) -> String {
    let words: Vec<String> = match finding.key.is_empty() {
        true => finding.row.iter().map(|(c, v)| word(c, v.as_deref())).collect(),
        false => check
            .key
            .iter()
            .zip(&finding.key)
            .map(|(c, v)| word(c, v.as_deref()))
            .collect(),
    };
    words.join(" ")
}

/// Of a null and the text `NULL` the fingerprints differ.
fn word(column: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("{column}={value:?}"),
        None => format!("{column} is null"),
    }
}

fn row(finding: &Finding) -> String {
    let cell = |(column, text): &(String, Option<String>)| format!("{}={}", visible(column), value(text.as_deref()));
    finding.row.iter().map(cell).collect::<Vec<_>>().join(", ")
}

/// The same for the same parts, whatever the version.
fn fingerprint(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_known_again_by_its_key() {
        assert_eq!(fingerprint(&["a", "b"]), fingerprint(&["a", "b"]));
        assert_ne!(fingerprint(&["a", "b"]), fingerprint(&["ab"]));
        assert_eq!(fingerprint(&["hotel.x"]), "a779623551c5b9d0a5c58fa415c65e65");
        assert_ne!(word("a", None), word("a", Some("NULL")));
    }
}
