//! What the command line says over the file.

use super::file::SESSIONS_MAX;
use super::{Gate, Group, Plan, ScenarioError, Schedule};
use crate::source::{nearest, quoted};

/// What the command line says over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The broken twin to install.
    pub bug: Option<String>,
    /// `N`, or `GROUP=N` for one of several groups.
    pub sessions: Vec<String>,
    /// Rounds.
    pub rounds: Option<u32>,
    /// The gate of every group.
    pub gate: Option<Gate>,
    /// Connections in the pool.
    pub pool: Option<u32>,
    /// The seed.
    pub seed: Option<u64>,
    /// Leave the serial control out.
    pub no_control: bool,
    /// Leave the watcher out: no lock waits, and less is known of deadlocks.
    pub no_watch: bool,
}

impl Overrides {
    /// Puts itself over what the file says.
    pub(super) fn apply(&self, plan: &mut Plan) -> Result<(), ScenarioError> {
        let wrong = |flag: String, message: String| ScenarioError::Override { flag, message };
        if let Some(name) = &self.bug {
            let Some(system) = &plan.system else {
                let message = format!("{} names no system, and a bug is a twin in a system", plan.name);
                return Err(wrong(format!("--bug {name}"), message));
            };
            plan.bug = Some(system.bug(name)?);
        }
        for given in &self.sessions {
            let flag = format!("--sessions {given}");
            let names: Vec<&str> = plan.groups.iter().map(|g| g.name.as_str()).collect();
            let (group, number) = match given.split_once('=') {
                Some((group, number)) => (Some(group), number),
                None => (None, given.as_str()),
            };
            let at = match group {
                None if names.len() == 1 => Some(0),
                None => {
                    let message = format!("this scenario has the groups {}; write GROUP=N", quoted(&names));
                    return Err(wrong(flag, message));
                }
                Some(group) => names.iter().position(|n| *n == group),
            };
            let Some(at) = at else {
                let hint = nearest(group.unwrap_or_default(), names.iter().copied())
                    .unwrap_or_else(|| format!("it has {}", quoted(&names)));
                return Err(wrong(flag, format!("this scenario has no such group; {hint}")));
            };
            match number.parse() {
                Ok(_) if matches!(plan.groups[at].schedule, Schedule::Ramping { .. }) => {
                    let message = "the stages of its schedule say how many sessions there are".to_string();
                    return Err(wrong(flag, message));
                }
                Ok(n) if (1..=SESSIONS_MAX).contains(&n) => plan.groups[at].sessions = n,
                _ => return Err(wrong(flag, format!("expected a number from 1 to {SESSIONS_MAX}"))),
            }
        }
        if let Some(rounds) = self.rounds {
            plan.rounds = rounds;
        }
        if let Some(gate) = self.gate {
            let counted = |g: &&mut Group| g.schedule.attempts(g.sessions).is_some() && g.start.is_zero();
            plan.groups.iter_mut().filter(counted).for_each(|g| g.gate = gate);
        }
        plan.pools[0].size = self.pool.or(plan.pools[0].size);
        plan.seed = self.seed.unwrap_or_else(random_seed);
        plan.control = !self.no_control;
        plan.watch = !self.no_watch;
        Ok(())
    }
}

/// Another one each run, short enough to type; reports print it.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8) % 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::load;

    #[test]
    fn overrides_that_do_not_fit_name_the_flag() {
        let overrides = |sessions: &str| Overrides {
            sessions: vec![sessions.into()],
            ..Overrides::default()
        };
        for (sessions, part) in [
            ("0", "1 to"),
            ("gest=3", "did you mean `guest`?"),
            ("guest=x", "a number"),
        ] {
            let error = load("last-room", &overrides(sessions)).unwrap_err().to_string();
            assert!(
                error.contains(&format!("--sessions {sessions}")) && error.contains(part),
                "{error}"
            );
        }
    }
}
