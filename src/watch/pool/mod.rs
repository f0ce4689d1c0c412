//! Pools that run dry: what those who have the connections do with them.
//!
//! A pool is dry when all its connections are on loan and somebody waits. The client knows who has a connection and
//! whether its session runs a statement, pauses between two, thinks, or has lost it; the server knows whether the process behind
//! it waits for a lock. Both together say why nobody gives one back. Each holder's time is charged to one [`Holding`].

mod backends;
mod holding;

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

pub(crate) use backends::{Backend, backends};
pub(crate) use holding::{Doing, Holder, Holding, Named};

/// Points in time that are kept; when there are more, each two become one.
const POINTS_MAX: usize = 400;
/// A look stands for no longer than this: what came in a longer gap is not known.
const GAP_MAX: Duration = Duration::from_millis(250);

/// A pool at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolNow {
    pub(crate) size: u32,
    pub(crate) in_use: u32,
    pub(crate) waiting: u32,
    /// Who has the connections; filled in when it is dry.
    pub(crate) holders: Vec<Holder>,
}

impl PoolNow {
    /// Whether all connections are on loan and somebody waits.
    pub(crate) fn is_dry(&self) -> bool {
        self.in_use >= self.size && self.waiting > 0
    }
}

/// What was seen of a pool in a round, or in all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolSeen {
    /// Since the first round began; in use; waiting.
    pub(crate) points: Vec<(Duration, u32, u32)>,
    /// All looks together.
    pub(crate) watched: Duration,
    pub(crate) dry: Duration,
    /// Seconds of connections on loan, whether it was dry or not.
    pub(crate) lent: f64,
    /// Seconds of sessions that waited while it was dry.
    pub(crate) waited: f64,
    /// Seconds of sessions that waited while connections were still to be made.
    pub(crate) connecting: f64,
    /// While it was dry, seconds of holders: by what they did, and who or where.
    pub(crate) charged: HashMap<(Holding, String), f64>,
    /// Of those behind locks: by table, where one is shown.
    pub(crate) tables: HashMap<String, f64>,
    /// Of those behind locks: by the session that held it.
    pub(crate) heads: HashMap<String, f64>,
    /// Dry time that nobody has been charged with yet.
    pub(crate) uncharged: Duration,
    /// When the latest look was.
    pub(crate) last: Option<Duration>,
}

impl PoolSeen {
    /// A look, so long after the round began.
    pub(crate) fn record(&mut self, at: Duration, now: &PoolNow) {
        let last = self.last.replace(at).unwrap_or_default();
        let stood = at.saturating_sub(last).min(GAP_MAX);
        self.watched += stood;
        self.point((at, now.in_use, now.waiting));
        let seconds = stood.as_secs_f64();
        self.lent += f64::from(now.in_use) * seconds;
        if now.is_dry() {
            self.dry += stood;
            self.uncharged += stood;
            self.waited += f64::from(now.waiting) * seconds;
        } else {
            let to_make = now.size.saturating_sub(now.in_use).min(now.waiting);
            self.connecting += f64::from(to_make) * seconds;
        }
    }

    /// Charges the dry time since the last time to what the holders do now. `table` names what a process waits for.
    pub(crate) fn charge(
        &mut self,
        now: &PoolNow,
        backends: &HashMap<i32, Backend>,
        named: &HashMap<i32, Named>,
        table: impl Fn(i32) -> Option<String>,
    ) {
        let seconds = std::mem::take(&mut self.uncharged).as_secs_f64();
        for holder in &now.holders {
            let charge = holder.classify(backends, named);
            if charge.holding == Holding::Convoy
                && let Some(table) = holder.runs.and_then(&table)
            {
                *self.tables.entry(table).or_default() += seconds;
            }
            if let Some(head) = charge.head {
                *self.heads.entry(head).or_default() += seconds;
            }
            *self.charged.entry((charge.holding, charge.whom)).or_default() += seconds;
        }
    }

    /// Adds a later round, which began so long after the first one.
    pub(crate) fn add(&mut self, other: &PoolSeen, began: Duration) {
        for (at, in_use, waiting) in &other.points {
            self.point((began + *at, *in_use, *waiting));
        }
        self.watched += other.watched;
        self.dry += other.dry;
        self.lent += other.lent;
        self.waited += other.waited;
        self.connecting += other.connecting;
        add(&mut self.charged, &other.charged);
        add(&mut self.tables, &other.tables);
        add(&mut self.heads, &other.heads);
    }

    /// Seconds of holders charged to each, those held by a gate left out: that was arranged.
    pub(crate) fn by_holding(&self) -> HashMap<Holding, f64> {
        let mut all = HashMap::new();
        for ((holding, _), seconds) in self.charged.iter().filter(|((h, _), _)| *h != Holding::AtGate) {
            *all.entry(*holding).or_default() += seconds;
        }
        all
    }

    /// Who or where, of those that did this: most first, with their part of it.
    pub(crate) fn whom(&self, holding: Holding) -> Vec<(&str, f64)> {
        let of = self.charged.iter().filter(|((h, _), _)| *h == holding);
        ranked(of.map(|((_, whom), seconds)| (whom.as_str(), *seconds)))
    }

    /// The tables that were waited for, most first, with their part.
    pub(crate) fn tables(&self) -> Vec<(&str, f64)> {
        ranked(self.tables.iter().map(|(table, seconds)| (table.as_str(), *seconds)))
    }

    /// The sessions that were waited for, most first, with their part.
    pub(crate) fn heads(&self) -> Vec<(&str, f64)> {
        ranked(self.heads.iter().map(|(head, seconds)| (head.as_str(), *seconds)))
    }

    /// At most so many points, evenly, each with the most that waited.
    pub(crate) fn thinned(&self, most: usize) -> Vec<(Duration, u32, u32)> {
        let each = self.points.len().div_ceil(most.max(1)).max(1);
        self.points.chunks(each).filter_map(fullest).collect()
    }

    fn point(&mut self, point: (Duration, u32, u32)) {
        self.points.push(point);
        if self.points.len() > POINTS_MAX {
            self.points = self.points.chunks(2).filter_map(fullest).collect();
        }
    }
}

/// The point at which most waited.
fn fullest(points: &[(Duration, u32, u32)]) -> Option<(Duration, u32, u32)> {
    points
        .iter()
        .copied()
        .max_by_key(|(_, in_use, waiting)| (*waiting, *in_use))
}

fn add<K: Clone + Eq + Hash>(all: &mut HashMap<K, f64>, other: &HashMap<K, f64>) {
    for (key, seconds) in other {
        *all.entry(key.clone()).or_default() += seconds;
    }
}

fn ranked<'a>(of: impl Iterator<Item = (&'a str, f64)>) -> Vec<(&'a str, f64)> {
    let mut all: Vec<(&str, f64)> = of.collect();
    let sum: f64 = all.iter().map(|(_, seconds)| seconds).sum();
    all.iter_mut()
        .for_each(|(_, seconds)| *seconds /= sum.max(f64::MIN_POSITIVE));
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(in_use: u32, waiting: u32, doing: Doing) -> PoolNow {
        let holder = |pid| Holder {
            pid,
            group: "guest".into(),
            place: "in `hold`".into(),
            doing,
            runs: (doing == Doing::Running).then_some(pid),
        };
        PoolNow {
            size: 4,
            in_use,
            waiting,
            holders: (1..=in_use as i32).map(holder).collect(),
        }
    }

    #[test]
    fn holders_are_charged_while_the_pool_is_dry_and_only_then() {
        let mut seen = PoolSeen::default();
        for (ms, in_use, waiting) in [(0, 4, 3), (100, 4, 3), (200, 4, 0), (300, 2, 1), (9_000, 4, 2)] {
            seen.record(Duration::from_millis(ms), &now(in_use, waiting, Doing::Leaked));
        }
        for _ in 0..2 {
            // once is enough
            seen.charge(&now(4, 2, Doing::Leaked), &HashMap::new(), &HashMap::new(), |_| None);
        }
        assert_eq!(
            seen.dry,
            Duration::from_millis(350),
            "a gap counts for a quarter of a second"
        );
        assert!((seen.by_holding()[&Holding::Leaked] - 1.4).abs() < 1e-9, "{seen:?}");
        assert!(
            (seen.connecting - 0.1).abs() < 1e-9,
            "one could have been made: {seen:?}"
        );
        let mut twice = seen.clone();
        twice.add(&seen, Duration::from_secs(10));
        assert_eq!(twice.points.last().unwrap().0, Duration::from_secs(19));
        assert_eq!(twice.dry, 2 * seen.dry);
    }

    #[test]
    fn points_are_thinned_and_peaks_stay() {
        let mut seen = PoolSeen::default();
        for ms in 0..5_000u64 {
            let waiting = if ms == 3_333 { 77 } else { 1 };
            let at = Duration::from_millis(ms);
            seen.record(at, &now(4, waiting, Doing::Thinking));
        }
        assert!(seen.points.len() <= POINTS_MAX);
        let few = seen.thinned(200);
        assert!((100..=200).contains(&few.len()), "{}", few.len());
        assert_eq!(few.iter().map(|p| p.2).max(), Some(77));
        assert!(few.is_sorted_by_key(|p| p.0));
    }
}
