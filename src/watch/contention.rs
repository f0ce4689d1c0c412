//! Proof of contention: who was in flight on the same key at the same time.

/// Counts the attempts that were in flight together with another one on the same key. Attempts on different keys never meet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meetings {
    /// By key; the first is for attempts without one.
    keys: Vec<InFlight>,
    met: u64,
}

/// Those in flight on a key.
#[derive(Clone, Copy, Debug, Default)]
struct InFlight {
    now: u64,
    /// Whether all of them are counted: they are as soon as there are two.
    counted: bool,
}

impl Meetings {
    /// An attempt sends its first statement.
    pub(crate) fn begin(&mut self, key: Option<usize>) {
        let flights = self.on(key);
        let (now, counted) = (flights.now, flights.counted);
        flights.now += 1;
        flights.counted |= now > 0;
        if now > 0 {
            self.met += if counted { 1 } else { now + 1 };
        }
    }

    fn on(&mut self, key: Option<usize>) -> &mut InFlight {
        let at = key.map_or(0, |k| k + 1);
        if self.keys.len() <= at {
            self.keys.resize(at + 1, InFlight::default());
        }
        &mut self.keys[at]
    }

    /// Its last statement was answered.
    pub(crate) fn end(&mut self, key: Option<usize>) {
        let flights = self.on(key);
        flights.now = flights.now.saturating_sub(1);
        flights.counted &= flights.now > 0;
    }

    /// How many have met another one.
    pub(crate) fn met(&self) -> u64 {
        self.met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(2, 1)`: one comes on key 2; `(2, -1)`: one goes.
    fn met(moves: &[(usize, i8)]) -> u64 {
        let mut meetings = Meetings::default();
        for (key, change) in moves {
            match change {
                1 => meetings.begin(Some(*key)),
                _ => meetings.end(Some(*key)),
            }
        }
        meetings.met()
    }

    #[test]
    fn only_flights_on_one_key_at_one_time_meet() {
        assert_eq!(met(&[]), 0);
        assert_eq!(met(&[(1, 1), (1, -1), (1, 1), (1, -1)]), 0);
        assert_eq!(met(&[(1, 1), (2, 1), (1, -1), (2, -1)]), 0);
        assert_eq!(met(&[(1, 1), (1, 1), (1, -1), (1, -1), (1, 1)]), 2);
        // one long flight that three others meet, one after another
        assert_eq!(
            met(&[(1, 1), (1, 1), (1, -1), (1, 1), (1, -1), (1, 1), (1, -1), (1, -1)]),
            4
        );
    }
}
