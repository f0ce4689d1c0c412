//! Which session ran which step on which process, and when.

use std::collections::HashMap;
use std::time::Instant;

/// The steps of a round that waited or held others up, by process.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    by_pid: HashMap<i32, Vec<Stretch>>,
}

/// A step that a session ran on a process.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    pub(crate) session: String,
    pub(crate) step: String,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    /// The context of the error it ended with.
    pub(crate) context: Option<String>,
}

impl Timeline {
    pub(crate) fn add(&mut self, pid: i32, stretch: Stretch) {
        let all = self.by_pid.entry(pid).or_default();
        let after = all.partition_point(|s| s.from <= stretch.from);
        match after.checked_sub(1).map(|i| &mut all[i]) {
            // the same step, known better now
            Some(known) if known.from == stretch.from => *known = stretch,
            _ => all.insert(after, stretch),
        }
    }

    /// Whether the race used the process.
    pub(crate) fn knows(&self, pid: i32) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// The step that ran at that moment, or the last one before.
    pub(crate) fn at(&self, pid: i32, at: Instant) -> Option<&Stretch> {
        let all = self.by_pid.get(&pid)?;
        let after = all.partition_point(|s| s.from <= at);
        all.get(after.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_step_of_a_moment_is_the_one_that_runs_or_has_run() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let mut timeline = Timeline::default();
        for (step, from, to) in [("confirm", 20, 30), ("hold", 5, 10)] {
            let stretch = Stretch {
                session: "guest 1".into(),
                step: step.into(),
                from: at(from),
                to: at(to),
                context: None,
            };
            timeline.add(7, stretch);
        }
        let step = |ms| timeline.at(7, at(ms)).map(|s| s.step.as_str());
        assert_eq!(
            [step(1), step(7), step(15), step(40)],
            [None, Some("hold"), Some("hold"), Some("confirm")]
        );
        assert!(timeline.at(8, at(7)).is_none());
    }
}
