//! What the flags of a command make of a verdict.

use super::{Judged, Judgement, Verdict};

/// What flags say of warnings, and of what could not be decided. Exit codes and report forms both go by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Warnings fail the run, too.
    pub strict: bool,
    /// What becomes of what could not be decided.
    pub undecided: Undecided,
}

/// What it makes of a run that something could not be decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Undecided {
    /// It is inconclusive.
    #[default]
    Inconclusive,
    /// It failed, as if a check were violated.
    Fails,
    /// It is worth a look, as if a warning were.
    Warns,
    /// Nothing.
    Passes,
}

impl Terms {
    /// What a verdict comes to: the worst of what is broken and of what the undecided is taken for.
    pub fn judged(self, verdict: &Verdict) -> Judged {
        let warned = if self.strict { Judged::Failed } else { Judged::Warned };
        // in a verdict of these kinds, all that is broken are warnings
        let broken = match verdict.rules.iter().any(Judgement::is_broken) {
            true => warned,
            false => Judged::Passed,
        };
        match (verdict.outcome, self.doubt()) {
            (Judged::Warned, _) => warned,
            (Judged::Inconclusive, Undecided::Fails) => Judged::Failed,
            (Judged::Inconclusive, Undecided::Inconclusive) if broken != Judged::Failed => Judged::Inconclusive,
            (Judged::Inconclusive, Undecided::Warns) => warned,
            (Judged::Inconclusive, _) => broken,
            (outcome, _) => outcome,
        }
    }

    /// What it makes of the run that something could not be decided; as a warning it fails where these do.
    pub fn doubt(self) -> Undecided {
        match self.undecided {
            Undecided::Warns if self.strict => Undecided::Fails,
            undecided => undecided,
        }
    }
}
