//! What was prepared on a connection, by number.

use std::borrow::Cow;

/// The numbers under which statements were prepared. Most scenarios have few, and these need no memory of their own: with a thousand
/// sessions, memory that was not touched for a while is what an attempt waits for.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// A bit each for the first 64.
    first: u64,
    more: Vec<bool>,
}

impl Prepared {
    pub(super) fn has(&self, number: usize) -> bool {
        match number.checked_sub(64) {
            None => self.first >> number & 1 == 1,
            Some(more) => self.more.get(more).copied().unwrap_or_default(),
        }
    }

    pub(super) fn add(&mut self, number: usize) {
        match number.checked_sub(64) {
            None => self.first |= 1 << number,
            Some(more) => {
                self.more.resize(self.more.len().max(more + 1), false);
                self.more[more] = true;
            }
        }
    }
}

/// What a statement is called on the server.
pub(super) fn name(number: usize) -> Cow<'static, str> {
    const NAMES: [&str; 8] = [
        "db_race_0",
        "db_race_1",
        "db_race_2",
        "db_race_3",
        "db_race_4",
        "db_race_5",
        "db_race_6",
        "db_race_7",
    ];
    match NAMES.get(number) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(format!("db_race_{number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_can_be_prepared() {
        let mut prepared = Prepared::default();
        for number in [0, 63, 64, 200] {
            assert!(!prepared.has(number));
            prepared.add(number);
            assert!(prepared.has(number) && !prepared.has(number + 1));
        }
        assert_eq!([name(7), name(8)], ["db_race_7", "db_race_8"]);
    }
}
