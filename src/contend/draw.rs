//! What an attempt is about: its key, its parameters, and where each `$n` comes from.

use std::borrow::Cow;

use rand::{Rng, RngExt, SeedableRng};
use rand_xoshiro::{SplitMix64, Xoshiro256PlusPlus};

use crate::scenario::{Draw, Param, Pick};

/// The values of a row, or of a statement's parameters, as text; NULL is none.
pub(crate) use crate::postgres::TextRow;

/// The values of a statement's parameters, as text.
pub(crate) type Values<'a> = Vec<Option<Cow<'a, str>>>;

/// The same, to keep.
pub(crate) fn kept(values: &Values<'_>) -> TextRow {
    let keep = |value: &Cow<'_, str>| value.clone().into_owned();
    values.iter().map(|value| value.as_ref().map(keep)).collect()
}

/// Which attempt: the seeds of its draws, and the built-in parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) round: u32,
    /// 1-based, over all groups.
    pub(crate) session: u32,
    /// 1-based within its group: spreads a group evenly over the keys.
    pub(crate) number: u32,
    /// 1-based.
    pub(crate) iteration: u32,
}

/// Where a `$n` gets its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Session,
    Iteration,
    Round,
    /// Index of a declared parameter.
    Param(usize),
    /// Index of a key column.
    Key(usize),
    /// A column of an earlier step's first row.
    Result {
        step: usize,
        column: usize,
    },
}

/// The key and the parameters drawn for an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    /// Index of the key's row.
    pub(crate) key: Option<usize>,
    pub(crate) params: Vec<String>,
}

/// A generator of its own for each attempt, and, as iteration 0, for a session's pauses: each mixes what came so far with the next
/// number, so that neighbours have nothing in common.
pub(crate) fn generator(seed: u64, round: u32, session: u32, iteration: u32) -> Xoshiro256PlusPlus {
    let mix = |so_far: u64, next: u32| SplitMix64::seed_from_u64(so_far ^ u64::from(next)).next_u64();
    Xoshiro256PlusPlus::seed_from_u64([round, session, iteration].into_iter().fold(mix(seed, 0), mix))
}

/// Draws. The same seed, round, session and iteration draw the same, in whatever order the sessions come.
pub(crate) fn draw(seed: u64, ticket: Ticket, keys: usize, pick: Pick, params: &[Param]) -> Drawn {
    let in_turn = in_turn(ticket, keys, pick);
    if let (Some(key), []) = (in_turn, params) {
        return Drawn {
            key,
            params: Vec::new(),
        };
    }
    let mut rng = generator(seed, ticket.round, ticket.session, ticket.iteration);
    let key = in_turn.unwrap_or_else(|| Some(rng.random_range(0..keys)));
    let params = params
        .iter()
        .map(|param| match &param.draw {
            Draw::Int(low, high) => rng.random_range(*low..=*high).to_string(),
            Draw::Choice(choice) => choice[rng.random_range(0..choice.len())].clone(),
        })
        .collect();
    Drawn { key, params }
}

/// The key alone.
pub(crate) fn key(seed: u64, ticket: Ticket, keys: usize, pick: Pick) -> Option<usize> {
    in_turn(ticket, keys, pick).unwrap_or_else(|| draw(seed, ticket, keys, pick, &[]).key)
}

/// The key, where chance has no part in it.
fn in_turn(ticket: Ticket, keys: usize, pick: Pick) -> Option<Option<usize>> {
    match pick {
        _ if keys == 0 => Some(None),
        Pick::Hot => Some(Some(0)),
        Pick::RoundRobin => Some(Some((ticket.number as usize + ticket.iteration as usize - 2) % keys)),
        Pick::Random => None,
    }
}

/// The step whose missing row would provide a value.
pub(crate) fn missing(results: &[Option<TextRow>], origins: &[Origin]) -> Option<usize> {
    origins.iter().find_map(|origin| match origin {
        Origin::Result { step, .. } if results[*step].is_none() => Some(*step),
        _ => None,
    })
}

/// The values of `$1`, `$2`, ..., when none is [`missing`].
pub(crate) fn values<'a>(
    ticket: Ticket,
    drawn: &'a Drawn,
    keys: &'a [TextRow],
    results: &'a [Option<TextRow>],
    origins: &[Origin],
) -> Values<'a> {
    let number = |n: u32| Some(Cow::Owned(n.to_string()));
    let value = |origin: &Origin| match *origin {
        Origin::Session => number(ticket.session),
        Origin::Iteration => number(ticket.iteration),
        Origin::Round => number(ticket.round),
        Origin::Param(i) => Some(drawn.params[i].as_str().into()),
        Origin::Key(column) => keys[drawn.key?][column].as_deref().map(Cow::from),
        Origin::Result { step, column } => results[step].as_ref()?[column].as_deref().map(Cow::from),
    };
    origins.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(session: u32, iteration: u32) -> Ticket {
        Ticket {
            round: 1,
            session,
            number: session,
            iteration,
        }
    }

    #[test]
    fn a_seed_draws_the_same_again_and_another_one_otherwise() {
        let params = [Param {
            name: "n".into(),
            draw: Draw::Int(0, 1_000_000),
        }];
        let one = |seed, t| draw(seed, t, 1, Pick::Hot, &params).params;
        assert_eq!(one(1, ticket(3, 2)), one(1, ticket(3, 2)));
        for other in [one(2, ticket(3, 2)), one(1, ticket(4, 2)), one(1, ticket(3, 1))] {
            assert_ne!(one(1, ticket(3, 2)), other);
        }
    }

    #[test]
    fn round_robin_spreads_evenly() {
        let mut counts = [0; 4];
        for session in 1..=20 {
            let key = draw(0, ticket(session, 1), 4, Pick::RoundRobin, &[]).key.unwrap();
            counts[key] += 1;
        }
        assert_eq!(counts, [5; 4]);
        assert_eq!(draw(0, ticket(1, 1), 0, Pick::Random, &[]).key, None);
    }
}
