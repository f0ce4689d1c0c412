//! Proof of contention: who was in flight on the same key at the same time.

use std::collections::HashMap;
use std::time::Instant;

/// An attempt in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    /// Attempts on different keys never meet.
    pub(crate) key: Option<usize>,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

/// How many of the flights were in the air together with another one on the same key.
pub(crate) fn overlapping(flights: &[Flight]) -> usize {
    let mut by_key: HashMap<Option<usize>, Vec<Flight>> = HashMap::new();
    for flight in flights {
        by_key.entry(flight.key).or_default().push(*flight);
    }
    by_key.values_mut().map(|flights| overlapping_on_a_key(flights)).sum()
}

fn overlapping_on_a_key(flights: &mut [Flight]) -> usize {
    flights.sort_by_key(|f| f.from);
    let mut met = vec![false; flights.len()];
    // the flight that lands last of those before
    let mut last: Option<usize> = None;
    for i in 0..flights.len() {
        if let Some(l) = last
            && flights[l].to > flights[i].from
        {
            met[l] = true;
            met[i] = true;
        }
        if last.is_none_or(|l| flights[l].to < flights[i].to) {
            last = Some(i);
        }
    }
    met.into_iter().filter(|m| *m).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn count(flights: &[(usize, u64, u64)]) -> usize {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let flights: Vec<Flight> = flights
            .iter()
            .map(|(key, from, to)| Flight {
                key: Some(*key),
                from: at(*from),
                to: at(*to),
            })
            .collect();
        overlapping(&flights)
    }

    #[test]
    fn only_flights_on_one_key_at_one_time_meet() {
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[(1, 0, 5), (1, 5, 9)]), 0);
        assert_eq!(count(&[(1, 0, 5), (2, 0, 5)]), 0);
        assert_eq!(count(&[(1, 0, 5), (1, 4, 9), (1, 20, 21)]), 2);
        assert_eq!(count(&[(1, 0, 100), (1, 1, 2), (1, 3, 4), (1, 99, 101)]), 4);
    }
}
