//! Which sizes are measured, and in which order.

use std::str::FromStr;

/// Sizes as they are written: `5..100`, `5,10,20` or `8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// From, to; both included.
    Range(u32, u32),
    /// These, in rising order.
    List(Vec<u32>),
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let wrong = || format!("`{text}` is no sizes; expected like 5..100, 5,10,20 or 8, from 1 to 10000");
        let size = |text: &str| match text.trim().parse() {
            Ok(n) if (1..=10_000).contains(&n) => Ok(n),
            _ => Err(wrong()),
        };
        if let Some((from, to)) = text.split_once("..") {
            let (from, to) = (size(from)?, size(to.trim_start_matches('='))?);
            return if from < to {
                Ok(Sizes::Range(from, to))
            } else {
                Err(wrong())
            };
        }
        let mut sizes = text.split(',').map(size).collect::<Result<Vec<u32>, String>>()?;
        sizes.sort_unstable();
        sizes.dedup();
        Ok(Sizes::List(sizes))
    }
}

impl Sizes {
    /// The sizes to measure. Those of a range grow by the same factor: from 5 to 10 matters as much as from 50 to 100.
    pub fn points(&self, most: u32) -> Vec<u32> {
        let (from, to) = match self {
            Sizes::List(sizes) => return sizes.clone(),
            Sizes::Range(from, to) => (f64::from(*from), f64::from(*to)),
        };
        let steps = f64::from(most.max(2) - 1);
        let mut sizes: Vec<u32> = (0..most.max(2))
            .map(|i| (from * (to / from).powf(f64::from(i) / steps)).round() as u32)
            .collect();
        sizes.dedup();
        sizes
    }

    /// The only size.
    pub fn single(&self) -> Option<u32> {
        match self {
            Sizes::List(sizes) if sizes.len() == 1 => sizes.first().copied(),
            _ => None,
        }
    }
}

/// The order of the runs, as indices of sizes: every size once, then every size again, the other way round. A machine that gets
/// slower with time then slows all sizes alike.
pub fn order(sizes: usize, repeats: u32) -> Vec<usize> {
    let pass = |repeat: u32| -> Vec<usize> {
        match repeat % 2 {
            0 => (0..sizes).collect(),
            _ => (0..sizes).rev().collect(),
        }
    };
    (0..repeats).flat_map(pass).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_grow_by_a_factor() {
        let points = |text: &str| text.parse::<Sizes>().map(|s| s.points(8));
        assert_eq!(points("5..100"), Ok(vec![5, 8, 12, 18, 28, 42, 65, 100]));
        assert_eq!(points("1..4"), Ok(vec![1, 2, 3, 4]), "no size twice");
        assert_eq!(points("20,5, 10,5"), Ok(vec![5, 10, 20]));
        assert_eq!("8".parse::<Sizes>().unwrap().single(), Some(8));
        for wrong in ["", "0", "5..", "9..5", "5..5", "x", "5,,6", "1..99999"] {
            assert!(points(wrong).unwrap_err().contains("5..100"), "{wrong}");
        }
    }

    #[test]
    fn every_size_is_measured_before_any_is_measured_again() {
        assert_eq!(order(3, 3), [0, 1, 2, 2, 1, 0, 0, 1, 2]);
    }
}
