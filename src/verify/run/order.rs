//! Which checks come first: those that the planner takes for the longest.
//!
//! With several workers the last check to end is what the others wait for at the end, so it had better not be a long one. The board goes by
//! the same estimates when it decides whether a check may have several processes.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::Env;
use super::board::Task;
use super::look::{self, Look};
use super::snapshot::{Worker, answered};

/// Planning one check may take so long; what takes longer is a long one.
const PLAN_MAX: Duration = Duration::from_millis(100);
/// Planning all of them. Those that are left come after those that were planned.
const ALL_MAX: Duration = Duration::from_secs(1);

/// Asks the planner what it thinks of each task, and orders them, longest first; what it can't plan keeps its place among the last.
pub(super) async fn longest_first(worker: &Worker, env: &Env<'_>, taken_at: &str, tasks: &mut [Task]) {
    let client: &Client = &worker.connection;
    let since = Instant::now();
    let is_begun = answered(client.batch_execute(look::SAVEPOINT)).await.is_ok();
    for task in tasks.iter_mut() {
        let look = Look {
            check: &env.checks[task.check],
            options: env.options,
            taken_at,
            range: None,
            // what is spread looks cheaper than it is
            may_spread: false,
            only: None,
        };
        if is_begun && since.elapsed() < ALL_MAX && !client.is_closed() {
            task.cost = cost(worker, &look).await;
        }
    }
    if is_begun {
        let _ = answered(client.batch_execute(look::RELEASE)).await;
    }
    // stable: equals stay in the order of their files
    let known = |task: &Task| task.cost.unwrap_or(0.0);
    tasks.sort_by(|a, b| known(b).total_cmp(&known(a)));
}

/// The planner's estimate of the whole, for one process.
async fn cost(worker: &Worker, look: &Look<'_>) -> Option<f64> {
    let client: &Client = &worker.connection;
    let limit = format!("SET LOCAL statement_timeout = {}", PLAN_MAX.as_millis());
    let (body, _) = look.check.statement();
    let plan = async {
        look::begin(worker, look).await?;
        client.batch_execute(&limit).await?;
        client.query_typed(&format!("EXPLAIN\n{body}"), &[]).await
    };
    let rows = answered(plan).await.ok()?;
    let line: String = rows.first()?.try_get(0).ok()?;
    total_cost(&line)
}

/// Of `Seq Scan on t  (cost=0.00..35.50 rows=2550 width=4)`: 35.5.
fn total_cost(line: &str) -> Option<f64> {
    let (_, costs) = line.rsplit_once("(cost=")?;
    let (_, total) = costs.split_once("..")?;
    total.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_first_line_has_the_cost_of_the_whole() {
        let line = "Seq Scan on \"t(cost=1..2 \"  (cost=0.00..35.50 rows=2550 width=4)";
        assert_eq!(total_cost(line), Some(35.5));
        assert_eq!(total_cost("Utility Statement"), None);
    }
}
