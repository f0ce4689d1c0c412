//! A run of checks against the memory and the waivers: what is told, what is remembered, and what the run is judged by. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::diff::{Change, Compared, Coverage, Key, Known, Look, diff};
use super::{
    AuditCheck, AuditCounts, AuditFinding, AuditResult, Event, Gone, Happened, Kept, Moment, Row, Subject, Waiver,
    Waivers, fingerprint,
};
use crate::verify::{Check, CheckResult, Count, DatabaseResult, Decision, Severity, level};

/// What a memory holds of the databases of a run.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Findings, open and closed.
    pub known: Vec<Known>,
    /// How each check came out when it was last run.
    pub subjects: BTreeMap<Subject, Remembered>,
    /// Checks that this run's suite has had; whether a run without them was told already.
    pub members: BTreeMap<Subject, bool>,
    /// When the last complete run was.
    pub last_run: Option<Moment>,
    /// How the last run of these checks on these databases failed; none when it didn't, or there was none.
    pub last_failure: Option<LastFailure>,
}

/// A run that left the memory as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastFailure {
    /// When it began.
    pub at: Moment,
    /// Its exit code; none when it was killed.
    pub exit_code: Option<u8>,
}

/// How a check came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// What it asked when it was last decided; empty when it never was.
    pub fingerprint: String,
    /// `held`, `violated` ..., after waivers.
    pub decision: String,
    /// `warn` or `error`; empty when it wasn't violated.
    pub level: String,
    /// Rows found up to its cap, waived ones included.
    pub count: u64,
    /// Whether there are more.
    pub is_capped: bool,
    /// How many findings are new, open and so on.
    pub counts: AuditCounts,
}

/// What a run comes to.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What is told.
    pub result: AuditResult,
    /// The checks, without their waived rows: what the verdict is made of.
    pub judged: Vec<CheckResult>,
    /// Findings to be remembered anew.
    pub findings: Vec<Kept>,
    /// Checks to be remembered.
    pub subjects: BTreeMap<Subject, Remembered>,
}

/// The name of a database that findings are remembered under.
pub fn database_name(database: &DatabaseResult) -> String {
    match database.name == database.address {
        true => place_name(&database.address).to_string(),
        false => database.name.clone(),
    }
}

/// An address without the user: who looked doesn't matter.
pub fn place_name(address: &str) -> &str {
    address.split_once('@').map_or(address, |(_, place)| place)
}

/// Compares what checks found at `now` with what is known.
pub fn compare(
    memory: Memory,
    databases: &[DatabaseResult],
    results: &[CheckResult],
    checks: &[Check],
    waivers: &Waivers,
    now: Moment,
) -> Comparison {
    let checks: BTreeMap<&str, &Check> = checks.iter().map(|check| (check.id.as_str(), check)).collect();
    let subject = |result: &CheckResult| Subject {
        database: databases.get(result.database).map(database_name).unwrap_or_default(),
        check: result.id.clone(),
    };
    let looks: Vec<Look> = results
        .iter()
        .filter_map(|result| Some(look(subject(result), result, checks.get(result.id.as_str())?)))
        .collect();
    let asked: BTreeMap<Subject, String> = memory
        .subjects
        .iter()
        .filter(|(_, remembered)| !remembered.fingerprint.is_empty())
        .map(|(subject, remembered)| (subject.clone(), remembered.fingerprint.clone()))
        .collect();
    let mut compared = diff(memory.known, &asked, &looks, now);
    let gone = gone(&mut compared, &memory.members, &looks);

    let mut sorted = Sorted::default();
    for one in &compared {
        sorted.add(one, waivers, now);
    }
    let mut judged = Vec::new();
    let mut subjects = BTreeMap::new();
    for (result, look) in results.iter().zip(&looks) {
        let without = without_waived(
            result,
            checks.get(result.id.as_str()).copied(),
            &look.subject,
            waivers,
            now,
        );
        let before = memory.subjects.get(&look.subject);
        let was_decided = is_decided(result);
        let fingerprint = match was_decided {
            true => look.fingerprint.clone(),
            false => before.map(|b| b.fingerprint.clone()).unwrap_or_default(),
        };
        let remembered = Remembered {
            fingerprint,
            decision: decision_name(without.decision).into(),
            level: without.level.map_or("", Severity::name).into(),
            count: result.count,
            is_capped: result.count_is_capped,
            counts: sorted
                .by_subject
                .get(&look.subject)
                .map_or(AuditCounts::default(), |(counts, _)| *counts),
        };
        subjects.insert(look.subject.clone(), remembered);
        judged.push(without);
    }
    let is_told = |(subject, now): (&Subject, &Remembered)| {
        let (decision, level, waived) = match memory.subjects.get(subject) {
            Some(before) => (before.decision.as_str(), before.level.as_str(), before.counts.waived),
            None => ("held", "", 0),
        };
        let holds = |decision: &str| matches!(decision, "held" | "skipped" | "pending");
        let is_same = now.decision == decision || holds(&now.decision) && holds(decision);
        is_same && now.level == level && now.counts.waived == waived
    };
    // a run that has looked at nothing is inconclusive, although each of its checks was only skipped
    let is_skipped = |remembered: &Remembered| remembered.decision == "skipped";
    let is_blind = subjects.values().all(is_skipped);
    let was_blind = subjects
        .keys()
        .all(|subject| memory.subjects.get(subject).is_some_and(is_skipped));
    let counts = sorted.counts();
    let changed = counts.new + counts.came_back + counts.fixed + counts.check_changed > 0
        || memory.last_failure.is_some()
        || gone.iter().any(|gone| gone.is_news)
        || is_blind != was_blind
        || !subjects.iter().all(is_told);
    let used = |waiver: &Waiver| {
        compared
            .iter()
            .any(|c| is_open(c) && waiver.covers(&c.finding.subject, &c.finding.key))
    };
    let was_looked_at = |waiver: &Waiver| {
        looks.iter().any(|l| {
            !matches!(l.coverage, Coverage::Nothing(_)) && crate::source::like(&waiver.check, &l.subject.check)
        })
    };
    let expired = waivers.list.iter().filter(|w| w.is_expired(now) && used(w));
    let unused = waivers.list.iter().filter(|w| !used(w) && was_looked_at(w));
    let result = AuditResult {
        state: String::new(),
        last_run: memory.last_run,
        changed,
        counts,
        checks: sorted.checks(&subjects),
        waivers_file: waivers.file.clone(),
        waivers_expired: expired.cloned().collect(),
        waivers_unused: unused.cloned().collect(),
        new: sorted.new,
        came_back: sorted.came_back,
        still_open: sorted.still_open,
        fixed: sorted.fixed,
        check_changed: sorted.check_changed,
        not_looked_at: sorted.not_looked_at,
        gone,
        waived: sorted.waived,
    };
    let mut rows: BTreeMap<(Subject, Key), Row> = BTreeMap::new();
    for result in results {
        for found in result.findings.iter().filter(|found| !found.pending) {
            rows.insert((subject(result), name(&result.key, &found.key)), found.row.clone());
        }
    }
    let to_remember = compared
        .into_iter()
        .filter(|c| !matches!(c.change, Change::NotLooked(_)))
        .map(|c| kept(c, &mut rows, waivers, now));
    Comparison {
        result,
        judged,
        findings: to_remember.collect(),
        subjects,
    }
}

/// Checks that are no longer in their suite, and have open findings: of these it is said why nobody looked.
fn gone(compared: &mut [Compared], members: &BTreeMap<Subject, bool>, looks: &[Look]) -> Vec<Gone> {
    let is_here = |subject: &Subject| looks.iter().any(|look| look.subject == *subject);
    let mut gone: Vec<Gone> = Vec::new();
    for one in compared {
        let Change::NotLooked(why) = &mut one.change else {
            continue;
        };
        let subject = &one.finding.subject;
        let Some(was_told) = members.get(subject).filter(|_| !is_here(subject)) else {
            continue;
        };
        *why = "its check is no longer in the suite".into();
        match gone.iter_mut().find(|gone| gone.subject == *subject) {
            Some(gone) => gone.open += 1,
            None => gone.push(Gone {
                subject: subject.clone(),
                open: 1,
                is_news: !was_told,
            }),
        }
    }
    gone
}

fn kept(compared: Compared, rows: &mut BTreeMap<(Subject, Key), Row>, waivers: &Waivers, now: Moment) -> Kept {
    let Compared { finding, change } = compared;
    let what = match change {
        Change::New => Some(Event::New),
        Change::CameBack => Some(Event::CameBack),
        Change::Fixed => Some(Event::Fixed),
        Change::CheckChanged => Some(Event::CheckChanged),
        Change::StillOpen | Change::NotLooked(_) => None,
    };
    let waiver = waivers.of(&finding.subject, &finding.key, now);
    Kept {
        row: rows.remove(&(finding.subject.clone(), finding.key.clone())),
        waiver: waiver
            .filter(|_| finding.closed.is_none())
            .map(|i| waivers.list[i].clone()),
        happened: what.map(|what| Happened {
            at: now,
            what,
            why: None,
        }),
        known: finding,
    }
}

fn is_decided(result: &CheckResult) -> bool {
    !matches!(result.decision, Decision::CouldNotDecide | Decision::Skipped)
}

/// As it is in JSON.
fn decision_name(decision: Decision) -> &'static str {
    match decision {
        Decision::Held => "held",
        Decision::Violated => "violated",
        Decision::Pending => "pending",
        Decision::CouldNotDecide => "could_not_decide",
        Decision::Skipped => "skipped",
    }
}

fn look(subject: Subject, result: &CheckResult, check: &Check) -> Look {
    let reason = || result.reason.as_deref().unwrap_or("no reason given");
    let coverage = match result.decision {
        Decision::CouldNotDecide => Coverage::Nothing(format!("could not decide: {}", reason())),
        Decision::Skipped => Coverage::Nothing(format!("skipped: {}", reason())),
        _ => match &result.reason {
            // some of its parts failed
            Some(why) => Coverage::Part(why.clone()),
            None if is_whole(result, check) => Coverage::Whole,
            None => Coverage::Part("the check has more rows than it counts, and it is not among the first".into()),
        },
    };
    let named = |keys: &[crate::verify::Key]| keys.iter().map(|values| name(&result.key, values)).collect();
    Look {
        subject,
        columns: result.key.iter().cloned().collect(),
        fingerprint: fingerprint(check),
        coverage,
        found: named(&result.keys),
        pending: named(&result.keys_pending),
    }
}

/// Whether all rows were seen, the pending ones included: these are counted up to the same cap.
fn is_whole(result: &CheckResult, check: &Check) -> bool {
    let pending_are_whole = match check.count {
        Count::Capped(cap) => result.pending < cap,
        Count::Exact => true,
        Count::None => result.pending == 0,
    };
    let has_all = |keys: &[crate::verify::Key], count: u64| keys.len() as u64 >= count;
    let keys_are_there = has_all(&result.keys, result.count) && has_all(&result.keys_pending, result.pending);
    !result.count_is_capped && pending_are_whole && keys_are_there
}

fn name(columns: &[String], values: &[Option<String>]) -> Key {
    columns.iter().cloned().zip(values.iter().cloned()).collect()
}

/// The result as it would be without the rows that are waived.
fn without_waived(
    result: &CheckResult,
    check: Option<&Check>,
    subject: &Subject,
    waivers: &Waivers,
    now: Moment,
) -> CheckResult {
    let is_waived = |values: &&crate::verify::Key| waivers.of(subject, &name(&result.key, values), now).is_some();
    let waived = result.keys.iter().filter(is_waived).count() as u64;
    let covers_all = waivers.cover_all_of(subject, now);
    if waived == 0 || !is_decided(result) {
        return result.clone();
    }
    let mut left = result.clone();
    left.count = result.count.saturating_sub(waived);
    left.findings.retain(|f| f.pending || !is_waived(&&f.key));
    if left.count == 0 && result.count_is_capped && !covers_all {
        left.decision = Decision::CouldNotDecide;
        left.level = None;
        left.reason = Some(format!(
            "the {waived} rows that were counted are waived, and there are more"
        ));
        return left;
    }
    left.count_is_capped = result.count_is_capped && !covers_all;
    left.level = check.and_then(|check| level(check, left.count, result.total));
    left.decision = match left.level {
        Some(_) => Decision::Violated,
        None if left.count == 0 && result.pending > 0 => Decision::Pending,
        None => Decision::Held,
    };
    left
}

fn is_open(compared: &Compared) -> bool {
    compared.finding.closed.is_none()
}

/// Findings by what became of them.
#[derive(Default)]
struct Sorted {
    new: Vec<AuditFinding>,
    came_back: Vec<AuditFinding>,
    still_open: Vec<AuditFinding>,
    fixed: Vec<AuditFinding>,
    check_changed: Vec<AuditFinding>,
    not_looked_at: Vec<AuditFinding>,
    waived: Vec<AuditFinding>,
    by_subject: BTreeMap<Subject, (AuditCounts, Option<Moment>)>,
}

impl Sorted {
    fn add(&mut self, compared: &Compared, waivers: &Waivers, now: Moment) {
        let Compared { finding, change } = compared;
        let was_seen = matches!(change, Change::New | Change::CameBack | Change::StillOpen);
        let waiver = waivers.of(&finding.subject, &finding.key, now).filter(|_| was_seen);
        let waiver = waiver.map(|i| waivers.list[i].clone());
        let (counts, oldest) = self.by_subject.entry(finding.subject.clone()).or_default();
        let list = if waiver.is_some() {
            counts.waived += 1;
            &mut self.waived
        } else {
            if was_seen {
                counts.open += 1;
                *oldest = Some(oldest.map_or(finding.open_since, |at| at.min(finding.open_since)));
            }
            match change {
                Change::New => {
                    counts.new += 1;
                    &mut self.new
                }
                Change::CameBack => {
                    counts.came_back += 1;
                    &mut self.came_back
                }
                Change::StillOpen => &mut self.still_open,
                Change::Fixed => {
                    counts.fixed += 1;
                    &mut self.fixed
                }
                Change::CheckChanged => {
                    counts.check_changed += 1;
                    &mut self.check_changed
                }
                Change::NotLooked(_) => {
                    counts.not_looked_at += 1;
                    &mut self.not_looked_at
                }
            }
        };
        let until = finding.closed.map_or(now, |(at, _)| at);
        list.push(AuditFinding {
            subject: finding.subject.clone(),
            key: finding.key.clone(),
            first_seen: finding.first_seen,
            last_seen: finding.last_seen,
            open_since: finding.open_since,
            times_seen: finding.times_seen,
            times_back: finding.times_back,
            open_s: until.since(finding.open_since).as_secs(),
            why: match change {
                Change::NotLooked(why) => Some(why.clone()),
                _ => None,
            },
            waiver,
        });
    }

    fn counts(&self) -> AuditCounts {
        AuditCounts {
            new: self.new.len(),
            came_back: self.came_back.len(),
            open: self.new.len() + self.came_back.len() + self.still_open.len(),
            fixed: self.fixed.len(),
            check_changed: self.check_changed.len(),
            not_looked_at: self.not_looked_at.len(),
            waived: self.waived.len(),
        }
    }

    /// Those of this run, and those of which something is open.
    fn checks(&self, run: &BTreeMap<Subject, Remembered>) -> Vec<AuditCheck> {
        let subjects: BTreeSet<&Subject> = run.keys().chain(self.by_subject.keys()).collect();
        let of = |subject: &&Subject| self.by_subject.get(*subject).copied().unwrap_or_default();
        let checks = subjects.into_iter().map(|subject| {
            let (counts, oldest_open_since) = of(&subject);
            AuditCheck {
                subject: subject.clone(),
                counts,
                oldest_open_since,
            }
        });
        checks.collect()
    }
}

#[cfg(test)]
mod tests;
