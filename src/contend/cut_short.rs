//! What ends a round before its schedules do: the user, a rule, or a server that is gone.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future;

use super::arena::Arena;
use super::board::Board;
use super::contest::{Contest, STOP_GRACE};
use super::{Round, Run, result};
use crate::scenario::Rule;
use crate::verdict;

/// How soon it is noticed that the server is gone.
const LIVENESS: Duration = Duration::from_millis(50);
/// Between requests to cancel what still runs.
const CANCEL_PERIOD: Duration = Duration::from_millis(200);
/// How often a round is judged by the rules that may abort it.
const JUDGE_PERIOD: Duration = Duration::from_millis(250);

impl Contest<'_> {
    /// Stops a round when the run is stopped, or the server gone; then what still runs after a while is cancelled, until
    /// nothing is left to cancel.
    pub(super) async fn end_early(&self, arena: &Arena) -> Infallible {
        let gone = async {
            while !self.control.is_closed() {
                tokio::time::sleep(LIVENESS).await;
            }
        };
        tokio::select! {
            () = self.stop.requested() => {}
            () = arena.stop.requested() => {}
            () = gone => {}
        }
        arena.stop.request();
        self.stop.grace(STOP_GRACE).await;
        self.cancel_stragglers(&arena.board).await
    }

    /// Judges the round now and then by the rules that may abort it.
    pub(super) async fn abort_when_hopeless(&self, arena: &Arena, why: &mut Option<String>) -> Infallible {
        if self.plan.rules.iter().all(|r| r.abort.is_none()) {
            return future::pending().await;
        }
        loop {
            tokio::time::sleep(JUDGE_PERIOD).await;
            let elapsed = arena.began.elapsed();
            let due = |rule: &&Rule| rule.abort.is_some_and(|abort| abort.grace <= elapsed);
            let round = Round {
                number: arena.round,
                keys: arena.keys.clone(),
                tally: arena.tally().clone(),
                took: elapsed,
                ..Round::default()
            };
            let run = Run {
                key_columns: self.prepared.key_columns.clone(),
                rounds: vec![round],
                ..Run::default()
            };
            let race = result::summarise(self.plan, &run, elapsed);
            let broken = self
                .plan
                .rules
                .iter()
                .filter(due)
                .find(|rule| verdict::is_hopeless(rule, &race));
            if let Some(rule) = broken {
                *why = Some(format!("aborted by the rule `{}`", rule.text));
                arena.stop.request();
                return future::pending().await;
            }
        }
    }

    /// Cancels what still runs, for ever; who insists doesn't wait for a statement that doesn't mind.
    async fn cancel_stragglers(&self, board: &Board) -> Infallible {
        let mut spare = None;
        let mut insisted_before = false;
        loop {
            let ask = match insisted_before {
                true => "pg_terminate_backend",
                false => "pg_cancel_backend",
            };
            insisted_before = self.stop.is_insisted();
            let sql = format!("select pg_catalog.{ask}(pid) from unnest($1::int4[]) pid");
            let client = spare.as_ref().unwrap_or(&self.control);
            if client.query(&sql, &[&board.busy()]).await.is_err() {
                // the server may live when this one connection is lost
                spare = self.target.connect("control").await.ok();
            }
            match insisted_before {
                true => tokio::time::sleep(CANCEL_PERIOD).await,
                false => self.stop.grace(CANCEL_PERIOD).await,
            }
        }
    }
}
