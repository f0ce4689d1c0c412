//! A cycle of waiters as it was seen while it stood: the server shows its rows only until one of them is ended.

use std::collections::HashMap;
use std::time::Instant;

use super::graph::Place;

/// A cycle in a sample.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    /// When the sample was asked for.
    pub(super) at: Instant,
    /// What each process waits for.
    pub(super) places: HashMap<i32, Place>,
    /// Whom each process waits for.
    pub(super) holders: HashMap<i32, Vec<i32>>,
    /// Rows that they have locked, of tables that are small enough to look at.
    pub(super) rows: Vec<LockedRow>,
    /// Tables whose rows they may lock or write, by process: oid, and whether it writes.
    pub(super) tables: HashMap<i32, Vec<(u32, bool)>>,
    /// Foreign keys between these tables: the one that refers, and the one referred to.
    pub(super) references: Vec<(u32, u32)>,
}

/// A row with locks on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LockedRow {
    pub(super) oid: u32,
    pub(super) relation: String,
    pub(super) row: String,
    pub(super) key: Option<String>,
    /// Who has locked it, and how. A single owner's lock has no name: the server doesn't show whether it wrote the row.
    pub(super) owners: Vec<(i32, Option<&'static str>)>,
}

impl Sighting {
    pub(super) fn new(at: Instant) -> Sighting {
        Sighting {
            at,
            places: HashMap::new(),
            holders: HashMap::new(),
            rows: Vec::new(),
            tables: HashMap::new(),
            references: Vec::new(),
        }
    }

    /// What a process waits for when it waits for that other one, with what is known of the row.
    ///
    /// Who wants more of a row of which it has a share already takes no tuple lock, so nothing names the row; but both
    /// it and the one it waits for are among the row's owners. It waits for one after the other of them: so this holds for the
    /// next ones, too.
    pub(super) fn place(&self, pid: i32, blocked_by: i32) -> Option<Place> {
        let waits_for_it = self.holders.get(&pid).is_some_and(|h| h.contains(&blocked_by));
        let mut place = self
            .places
            .get(&pid)
            .filter(|_| waits_for_it)
            .cloned()
            .unwrap_or_default();
        if place.relation.is_none() {
            let shared = |row: &&LockedRow| row.lock_of(pid).is_some() && row.lock_of(blocked_by).is_some();
            let mut candidates = self.rows.iter().filter(shared);
            if let (Some(row), None) = (candidates.next(), candidates.next()) {
                place.oid = Some(row.oid);
                place.relation = Some(row.relation.clone());
                place.row = Some(row.row.clone());
                place.key.clone_from(&row.key);
            }
        } else if place.key.is_none() {
            place.key = self.find(&place).and_then(|row| row.key.clone());
        }
        place.relation.is_some().then_some(place)
    }

    /// The lock that a process has on a row, when the server shows which.
    pub(super) fn held(&self, pid: i32, place: &Place) -> Option<&'static str> {
        self.find(place)?.lock_of(pid)?
    }

    /// The row of that table with that ctid, or that key.
    fn find(&self, place: &Place) -> Option<&LockedRow> {
        let same = |r: &&LockedRow| match &place.row {
            Some(row) => r.row == *row,
            None => r.key.is_some() && r.key == place.key,
        };
        self.rows.iter().filter(|r| Some(r.oid) == place.oid).find(same)
    }

    /// The key of a row that a message names: its relation comes without a schema.
    pub(super) fn named(&self, relation: &str, row: &str) -> Option<&LockedRow> {
        let bare = |name: &str| name.rsplit('.').next().unwrap_or(name).trim_matches('"').to_string();
        let same = |r: &&LockedRow| r.row == row && bare(&r.relation) == bare(relation);
        self.rows.iter().find(same)
    }

    /// Whether the process has written a table that refers to the row's.
    pub(super) fn refers(&self, pid: i32, place: &Place) -> bool {
        let written = self.tables.get(&pid).map_or(&[][..], Vec::as_slice);
        let wrote = |oid: u32| written.contains(&(oid, true));
        self.references
            .iter()
            .any(|(from, to)| Some(*to) == place.oid && wrote(*from))
    }
}

impl LockedRow {
    fn lock_of(&self, pid: i32) -> Option<Option<&'static str>> {
        self.owners
            .iter()
            .find(|(owner, _)| *owner == pid)
            .map(|(_, lock)| *lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting() -> Sighting {
        let row = |row: &str, key: &str, owners: &[i32]| LockedRow {
            oid: 5,
            relation: "public.room".into(),
            row: row.into(),
            key: Some(key.into()),
            owners: owners.iter().map(|pid| (*pid, Some("FOR SHARE"))).collect(),
        };
        let mut sighting = Sighting::new(Instant::now());
        sighting.rows = vec![row("(0,1)", "id = 1", &[1, 2]), row("(0,2)", "id = 2", &[2])];
        sighting.places = HashMap::from([(1, Place::default()), (2, Place::default())]);
        sighting.holders = HashMap::from([(1, vec![2]), (2, vec![1])]);
        sighting
    }

    #[test]
    fn a_row_that_both_have_a_share_of_is_the_one_that_is_wanted() {
        let mut seen = sighting();
        let place = seen.place(1, 2).unwrap();
        assert_eq!(
            (place.relation.as_deref(), place.key.as_deref()),
            (Some("public.room"), Some("id = 1"))
        );
        assert_eq!(seen.held(2, &place), Some("FOR SHARE"));
        let by_key = Place { row: None, ..place };
        assert_eq!(seen.held(2, &by_key), Some("FOR SHARE"));
        // of two such rows nobody knows which
        seen.rows[1].owners.push((1, Some("FOR SHARE")));
        assert_eq!(seen.place(1, 2), None);
    }

    #[test]
    fn a_place_is_that_of_one_holder_only() {
        let mut seen = sighting();
        let place = Place {
            relation: Some("hotel".into()),
            ..Place::default()
        };
        seen.places.insert(1, place);
        assert_eq!(seen.place(1, 2).unwrap().relation.as_deref(), Some("hotel"));
        // by the time it waits for another one, it may wait for something else
        assert_eq!(seen.place(1, 3), None);
    }

    #[test]
    fn a_row_is_found_by_the_name_in_a_message() {
        let seen = sighting();
        assert_eq!(seen.named("room", "(0,2)").unwrap().key.as_deref(), Some("id = 2"));
        assert!(seen.named("rooms", "(0,2)").is_none());
    }

    #[test]
    fn who_wrote_a_table_that_refers_to_the_row_has_a_share_of_it() {
        let mut seen = sighting();
        seen.references = vec![(6, 5)];
        seen.tables = HashMap::from([(1, vec![(6, true), (5, false)]), (2, vec![(6, false)])]);
        let place = seen.place(1, 2).unwrap();
        assert!(seen.refers(1, &place));
        assert!(!seen.refers(2, &place));
    }
}
