use super::*;
use crate::source::Source;

fn check(header: &str) -> Check {
    let text = format!(
        "-- /// db-race check\n-- id = 'shop.a'\n-- title = 't'\n-- key = ['id']\n{header}-- ///\nselect id from a"
    );
    Check::parse(Source::new("a.sql", text)).unwrap()
}

/// What the check found: rows with these ids.
fn found(check: &Check, ids: &[u32]) -> CheckResult {
    let mut result = CheckResult::of(check);
    result.keys = ids.iter().map(|id| vec![Some(id.to_string())]).collect();
    result.count = ids.len() as u64;
    result.level = level(check, result.count, None);
    result.decision = match result.level {
        Some(_) => Decision::Violated,
        None => Decision::Held,
    };
    result
}

fn undecided(check: &Check) -> CheckResult {
    CheckResult {
        decision: Decision::CouldNotDecide,
        reason: Some("timeout".into()),
        ..CheckResult::of(check)
    }
}

fn waivers(keys: &[&[(&str, &str)]]) -> Waivers {
    let of = |key: &&[(&str, &str)]| Waiver {
        check: "shop.*".into(),
        key: key.iter().map(|(c, v)| (c.to_string(), v.to_string())).collect(),
        owner: "me".into(),
        reason: "old".into(),
        until: "2026-11-30".into(),
        line: 1,
    };
    Waivers {
        file: Some("waivers.toml".into()),
        list: keys.iter().map(of).collect(),
    }
}

fn at(text: &str) -> Moment {
    Moment::parse(text).unwrap()
}

/// A run on the database `shop`, at noon of a day in November.
fn run(memory: Memory, result: CheckResult, check: &Check, waivers: &Waivers, day: u32) -> (Comparison, Memory) {
    let database = DatabaseResult {
        address: "me@db:5432/shop".into(),
        name: "me@db:5432/shop".into(),
        ..DatabaseResult::default()
    };
    let now = at(&format!("2026-11-{day:02}T12:00:00Z"));
    let mut known: BTreeMap<Key, Known> = memory.known.iter().map(|k| (k.key.clone(), k.clone())).collect();
    let comparison = compare(
        memory,
        &[database],
        &[result],
        std::slice::from_ref(check),
        waivers,
        now,
    );
    known.extend(
        comparison
            .findings
            .iter()
            .map(|k| (k.known.key.clone(), k.known.clone())),
    );
    let memory = Memory {
        known: known.into_values().collect(),
        subjects: comparison.subjects.clone(),
        members: BTreeMap::new(),
        last_run: Some(now),
        last_failure: None,
    };
    (comparison, memory)
}

#[test]
fn nothing_changed_means_nothing_to_tell() {
    let check = check("");
    let none = Waivers::default();
    let (first, memory) = run(Memory::default(), found(&check, &[]), &check, &none, 1);
    assert!(!first.result.changed, "a first run in which all holds is no news");
    let (second, memory) = run(memory, found(&check, &[1]), &check, &none, 2);
    assert!(second.result.changed && second.result.counts.new == 1);
    assert_eq!(second.result.new[0].subject.database, "db:5432/shop", "whoever looks");
    let (third, memory) = run(memory, found(&check, &[1]), &check, &none, 3);
    assert!(!third.result.changed && third.result.counts.open == 1);
    let (fourth, memory) = run(memory, undecided(&check), &check, &none, 4);
    assert!(fourth.result.changed, "that it can't be decided any more is news");
    assert_eq!((fourth.result.counts.fixed, fourth.result.counts.not_looked_at), (0, 1));
    let (fifth, memory) = run(memory, undecided(&check), &check, &none, 5);
    assert!(!fifth.result.changed);
    let (sixth, mut memory) = run(memory, found(&check, &[1]), &check, &none, 6);
    assert!(sixth.result.changed, "so is that it can be again");
    assert_eq!(sixth.result.still_open[0].open_s, 4 * 86_400);
    memory.last_failure = Some(LastFailure {
        at: at("2026-11-06T13:00:00Z"),
        exit_code: Some(69),
    });
    assert!(
        run(memory, found(&check, &[1]), &check, &none, 7).0.result.changed,
        "the database is there again"
    );
}

#[test]
fn waived_rows_dont_count_until_the_waiver_expires() {
    let check = check("");
    let waivers = waivers(&[&[("id", "1")], &[("id", "9")]]);
    let (first, memory) = run(Memory::default(), found(&check, &[1, 2]), &check, &waivers, 1);
    let counts = first.result.counts;
    assert_eq!((counts.new, counts.open, counts.waived), (1, 1, 1));
    assert_eq!(
        (first.judged[0].decision, first.judged[0].count),
        (Decision::Violated, 1)
    );
    assert_eq!(first.result.waivers_unused, waivers.list[1..]);
    let (second, memory) = run(memory, found(&check, &[1]), &check, &waivers, 2);
    assert_eq!(second.judged[0].decision, Decision::Held);
    assert_eq!((second.result.counts.fixed, second.result.counts.open), (1, 0));
    let (third, memory) = run(memory, found(&check, &[1]), &check, &waivers, 3);
    assert!(!third.result.changed);
    // the last day is over
    let mut expired = waivers.clone();
    expired.list[0].until = "2026-11-03".into();
    let (fourth, memory) = run(memory, found(&check, &[1]), &check, &expired, 4);
    assert!(fourth.result.changed && fourth.judged[0].decision == Decision::Violated);
    assert_eq!(fourth.result.waivers_expired, expired.list[..1]);
    assert_eq!(
        fourth.result.still_open[0].open_s,
        3 * 86_400,
        "it was open all the time"
    );
    let (fifth, _) = run(memory, found(&check, &[1]), &check, &expired, 5);
    assert!(!fifth.result.changed, "told once");
}

#[test]
fn thresholds_count_what_is_not_waived() {
    let check = check("-- warn_if = '> 0'\n-- error_if = '> 1'\n");
    let none = Waivers::default();
    let judged = |ids: &[u32], waivers: &Waivers| {
        let (comparison, _) = run(Memory::default(), found(&check, ids), &check, waivers, 1);
        (comparison.judged[0].decision, comparison.judged[0].level)
    };
    assert_eq!(judged(&[1, 2], &none), (Decision::Violated, Some(Severity::Error)));
    assert_eq!(
        judged(&[1, 2], &waivers(&[&[("id", "1")]])),
        (Decision::Violated, Some(Severity::Warn))
    );
    assert_eq!(judged(&[1, 2], &waivers(&[&[]])), (Decision::Held, None));
}

#[test]
fn what_lies_beyond_the_cap_is_not_taken_for_waived() {
    let check = check("-- count = 'capped(2)'\n");
    let mut result = found(&check, &[1, 2]);
    result.count_is_capped = true;
    let judged = |waivers: &Waivers| {
        let (comparison, _) = run(Memory::default(), result.clone(), &check, waivers, 1);
        comparison.judged[0].decision
    };
    assert_eq!(judged(&waivers(&[&[("id", "1")]])), Decision::Violated);
    assert_eq!(
        judged(&waivers(&[&[("id", "1")], &[("id", "2")]])),
        Decision::CouldNotDecide
    );
    assert_eq!(
        judged(&waivers(&[&[]])),
        Decision::Held,
        "the waiver covers what was not seen, too"
    );
}

#[test]
fn pending_rows_beyond_the_cap_could_be_any() {
    let check = check("-- count = 'capped(2)'\n");
    let none = Waivers::default();
    let (_, memory) = run(Memory::default(), found(&check, &[1]), &check, &none, 1);
    let mut result = found(&check, &[]);
    result.decision = Decision::Pending;
    result.pending = 2;
    result.keys_pending = vec![vec![Some("5".into())], vec![Some("6".into())]];
    let (second, _) = run(memory, result, &check, &none, 2);
    assert_eq!((second.result.counts.fixed, second.result.counts.not_looked_at), (0, 1));
}

#[test]
fn an_undecided_check_is_compared_with_what_it_asked_before() {
    let before = check("");
    let after = check("-- params = { ttl = '1m' }\n");
    let none = Waivers::default();
    let (_, memory) = run(Memory::default(), found(&before, &[1]), &before, &none, 1);
    let (_, memory) = run(memory, undecided(&after), &after, &none, 2);
    let (third, _) = run(memory, found(&after, &[]), &after, &none, 3);
    assert_eq!((third.result.counts.fixed, third.result.counts.check_changed), (0, 1));
}
