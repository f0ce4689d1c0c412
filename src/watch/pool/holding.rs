//! One holder of a connection at one moment: what it does with it. Pure.

use std::collections::HashMap;

use super::backends::{Backend, root};

/// What a session that has a connection does, as the client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It waits for an answer.
    Running,
    /// It has an attempt under way, and no statement.
    Between,
    /// It is between attempts.
    Thinking,
    /// It asks for a second connection.
    AsksAgain,
    /// It stands at a gate.
    AtGate,
    /// It will never give the connection back.
    Leaked,
}

/// A connection on loan.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    /// The server's process behind it.
    pub(crate) pid: i32,
    pub(crate) group: String,
    /// Where in its attempt: "in `hold`", "before `confirm`".
    pub(crate) place: String,
    pub(crate) doing: Doing,
    /// The process that runs the session's statement: another one, when the session has two connections.
    pub(crate) runs: Option<i32>,
}

/// A session, for those who wait behind it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// "guest 3"
    pub(crate) session: String,
    /// "guest before `confirm`"
    pub(crate) place: String,
}

/// Where the time of a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) holding: Holding,
    /// Who or where; of those behind a lock, who holds it and what they do.
    pub(crate) whom: String,
    /// The session that holds the lock.
    pub(crate) head: Option<String>,
}

/// Why a connection isn't free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Holding {
    /// It waits for a lock.
    Convoy,
    /// Its transaction is open and the client does something else.
    IdleInTransaction,
    /// No transaction is open, and it is on loan all the same.
    HeldIdle,
    /// It is never given back.
    Leaked,
    /// Its session waits for another connection of the same pool.
    Nested,
    /// It works.
    Working,
    /// It is held by a gate of the race's own.
    AtGate,
}

impl Holder {
    /// What the connection is charged to.
    ///
    /// The two views are not of one moment. The client's comes first: a process that seems idle while the client waits for its answer
    /// is about to be told, or to tell.
    pub(crate) fn classify(&self, backends: &HashMap<i32, Backend>, named: &HashMap<i32, Named>) -> Charge {
        let charge = |holding, whom: String| Charge {
            holding,
            whom,
            head: None,
        };
        let at = || format!("{} {}", self.group, self.place);
        let arranged = || charge(Holding::AtGate, String::new());
        match self.doing {
            Doing::Leaked => charge(Holding::Leaked, self.group.clone()),
            Doing::AtGate => arranged(),
            Doing::AsksAgain => charge(Holding::Nested, at()),
            Doing::Running => {
                let runs = self.runs.unwrap_or(self.pid);
                match backends.get(&runs) {
                    Some(backend) if backend.waits_for_standby => arranged(),
                    Some(backend) if backend.waits_for_lock => match root(runs, backends) {
                        Some(root) if is_gate(root, backends) => arranged(),
                        root => Charge {
                            head: root.and_then(|pid| named.get(&pid)).map(|n| n.session.clone()),
                            ..charge(Holding::Convoy, blame(root, backends, named))
                        },
                    },
                    _ => charge(Holding::Working, at()),
                }
            }
            Doing::Between | Doing::Thinking => match backends.get(&self.pid) {
                Some(backend) if backend.is_in_transaction() => charge(Holding::IdleInTransaction, at()),
                // it was given something to do, or told something, since the client was looked at
                Some(backend) if backend.state == "active" => charge(Holding::Working, at()),
                _ => charge(Holding::HeldIdle, self.group.clone()),
            },
        }
    }
}

fn is_gate(pid: i32, backends: &HashMap<i32, Backend>) -> bool {
    backends.get(&pid).is_some_and(|b| b.application == "db-race/gate")
}

/// Who holds a lock, and what they do with it.
fn blame(root: Option<i32>, backends: &HashMap<i32, Backend>, named: &HashMap<i32, Named>) -> String {
    let Some(pid) = root else {
        return "one another".into();
    };
    let who = named
        .get(&pid)
        .map(|n| n.place.clone())
        .unwrap_or_else(|| match backends.get(&pid) {
            Some(Backend { application, .. }) if !application.is_empty() => format!("process {pid} ({application})"),
            Some(_) => format!("process {pid}"),
            None if pid == 0 => "a prepared transaction".into(),
            None => format!("process {pid}"),
        });
    match backends.get(&pid) {
        Some(backend) if backend.is_in_transaction() => format!("{who}, idle in transaction"),
        Some(backend) if backend.state == "active" => format!("{who}, working"),
        _ => who,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(state: &str, blockers: &[i32]) -> Backend {
        Backend {
            state: state.into(),
            waits_for_lock: !blockers.is_empty(),
            blockers: blockers.to_vec(),
            ..Backend::default()
        }
    }

    fn holder(pid: i32, doing: Doing) -> Holder {
        Holder {
            pid,
            group: "guest".into(),
            place: "in `hold`".into(),
            doing,
            runs: (doing == Doing::Running).then_some(pid),
        }
    }

    #[test]
    fn client_and_server_together_say_what_holds_a_connection() {
        let idle = "idle in transaction";
        let server = HashMap::from([
            (1, backend(idle, &[])),
            (2, backend("active", &[1])),
            (3, backend("active", &[])),
            (4, backend("idle", &[])),
        ]);
        let named = Named {
            session: "guest 1".into(),
            place: "guest before `charge`".into(),
        };
        let named = HashMap::from([(1, named)]);
        for (pid, doing, holding, whom) in [
            (1, Doing::Between, Holding::IdleInTransaction, "guest in `hold`"),
            (
                2,
                Doing::Running,
                Holding::Convoy,
                "guest before `charge`, idle in transaction",
            ),
            (3, Doing::Running, Holding::Working, "guest in `hold`"),
            (4, Doing::Running, Holding::Working, "guest in `hold`"),
            (4, Doing::Thinking, Holding::HeldIdle, "guest"),
            (1, Doing::AsksAgain, Holding::Nested, "guest in `hold`"),
            (4, Doing::Leaked, Holding::Leaked, "guest"),
            (4, Doing::AtGate, Holding::AtGate, ""),
            (99, Doing::Between, Holding::HeldIdle, "guest"),
        ] {
            let got = holder(pid, doing).classify(&server, &named);
            assert_eq!((got.holding, got.whom.as_str()), (holding, whom), "{pid} {doing:?}");
            assert_eq!(got.head.is_some(), holding == Holding::Convoy);
        }
    }

    #[test]
    fn the_first_connection_does_what_the_second_does() {
        let server = HashMap::from([
            (1, backend("idle in transaction", &[])),
            (2, backend("active", &[3])),
            (3, backend("active", &[])),
        ]);
        let first = Holder {
            runs: Some(2),
            ..holder(1, Doing::Running)
        };
        let got = first.classify(&server, &HashMap::new());
        assert_eq!(
            (got.holding, got.whom.as_str()),
            (Holding::Convoy, "process 3, working")
        );
    }

    #[test]
    fn what_a_gate_holds_is_arranged() {
        let gate = Backend {
            application: "db-race/gate".into(),
            ..backend("idle in transaction", &[])
        };
        let server = HashMap::from([(1, backend("active", &[9])), (9, gate)]);
        let got = holder(1, Doing::Running).classify(&server, &HashMap::new());
        assert_eq!(got.holding, Holding::AtGate);
    }
}
