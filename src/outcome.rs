//! How an attempt, or one of its steps, ended.

use serde::{Deserialize, Serialize};

/// Every attempt ends in exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The server committed the work.
    Accepted,
    /// A refusal that the scenario expects (`reject`).
    Rejected,
    /// The server gave the attempt up for another one: 40001 or 40P01.
    Conflict,
    /// A time limit ended it: 55P03, 57014, or the step's own limit.
    Timeout,
    /// It never got a connection: pool timeout, 53300, or no server.
    Refused,
    /// The connection was lost while the step ran: it may or may not have committed.
    InDoubt,
    /// Anything else.
    Error,
}

impl Outcome {
    /// All outcomes, in the order in which reports show them.
    pub const ALL: [Outcome; 7] = [
        Outcome::Accepted,
        Outcome::Rejected,
        Outcome::Conflict,
        Outcome::Timeout,
        Outcome::Refused,
        Outcome::InDoubt,
        Outcome::Error,
    ];

    /// The name used in scenario files and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Rejected => "rejected",
            Outcome::Conflict => "conflict",
            Outcome::Timeout => "timeout",
            Outcome::Refused => "refused",
            Outcome::InDoubt => "in_doubt",
            Outcome::Error => "error",
        }
    }

    /// The outcome of that name.
    pub fn from_name(name: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|o| o.name() == name)
    }
}

/// How many times each outcome was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// Committed.
    pub accepted: u64,
    /// Refused as expected.
    pub rejected: u64,
    /// Lost to another transaction.
    pub conflict: u64,
    /// Ended by a time limit.
    pub timeout: u64,
    /// No connection.
    pub refused: u64,
    /// Unknown whether committed.
    pub in_doubt: u64,
    /// Unexpected.
    pub error: u64,
}

impl Outcomes {
    /// Counts one more.
    pub fn add(&mut self, outcome: Outcome) {
        *self.slot(outcome) += 1;
    }

    /// Adds the counts of another set.
    pub fn merge(&mut self, other: &Outcomes) {
        for outcome in Outcome::ALL {
            *self.slot(outcome) += other.get(outcome);
        }
    }

    /// One that was counted here belongs there.
    pub fn move_one(&mut self, from: Outcome, to: Outcome) {
        if self.get(from) > 0 {
            *self.slot(from) -= 1;
            *self.slot(to) += 1;
        }
    }

    /// The count of one outcome.
    pub fn get(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Accepted => self.accepted,
            Outcome::Rejected => self.rejected,
            Outcome::Conflict => self.conflict,
            Outcome::Timeout => self.timeout,
            Outcome::Refused => self.refused,
            Outcome::InDoubt => self.in_doubt,
            Outcome::Error => self.error,
        }
    }

    /// The count over all outcomes.
    pub fn total(&self) -> u64 {
        Outcome::ALL.into_iter().map(|o| self.get(o)).sum()
    }

    fn slot(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Accepted => &mut self.accepted,
            Outcome::Rejected => &mut self.rejected,
            Outcome::Conflict => &mut self.conflict,
            Outcome::Timeout => &mut self.timeout,
            Outcome::Refused => &mut self.refused,
            Outcome::InDoubt => &mut self.in_doubt,
            Outcome::Error => &mut self.error,
        }
    }
}
