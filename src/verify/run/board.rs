//! What is to be done on a snapshot, and by whom.
//!
//! Workers draw tasks from one queue. One that loses its connection gives its task back and joins anew, as long as somebody alive has the
//! snapshot to give; so the queue is at its end only when nobody has a task that could come back.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::limit::Over;

/// How often a task is begun: whoever ends other sessions takes some of these tries away from them.
const TRIES: u32 = 3;

/// A check, or a range of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Task {
    /// Which check of the run.
    pub(super) check: usize,
    /// Which of its ranges; none: the check is whole, or its ranges are not known yet.
    pub(super) range: Option<Range>,
    /// The planner's estimate for one process.
    pub(super) cost: Option<f64>,
    /// Whether the server may spread it over several processes.
    pub(super) may_spread: bool,
    tries: u32,
    /// How its last worker was lost.
    pub(super) lost_by: Option<String>,
}

/// A part of a chunked check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) nth: usize,
    /// Included.
    pub(super) from: i64,
    /// Not included.
    pub(super) to: i64,
}

impl Task {
    pub(super) fn new(check: usize, range: Option<Range>) -> Task {
        Task {
            check,
            range,
            cost: None,
            may_spread: true,
            tries: 0,
            lost_by: None,
        }
    }
}

pub(super) struct Board {
    state: Mutex<State>,
    changed: Notify,
    over: watch::Sender<Option<String>>,
}

struct State {
    queue: VecDeque<Task>,
    running: usize,
    alive: usize,
    /// Those alive, and those that may join again.
    workers: usize,
    /// Whether each of the server's cores has a worker.
    fills_cores: bool,
    /// The worker that exported, and the snapshot's id.
    export: Option<(usize, String)>,
}

impl State {
    /// The next task that may be begun. One that has cost a worker its connection waits until those who are lost have joined again: it may
    /// cost the last one that has the snapshot, too.
    fn drawable(&self) -> Option<usize> {
        let is_safe = self.alive == self.workers;
        self.queue.iter().position(|task| task.tries == 0 || is_safe)
    }

    /// Whether there are cores to spread a task over: several processes cost more than one, which is a loss while the other cores have
    /// other tasks until it ends.
    fn may_spread(&self, task: &Task) -> bool {
        let rest: f64 = self.queue.iter().filter_map(|task| task.cost).sum();
        let others = self.workers.saturating_sub(1) as f64;
        !self.fills_cores || task.cost.is_none_or(|cost| rest < cost * others)
    }
}

/// What a worker does next.
pub(super) enum Next {
    Task(Task),
    /// Nobody who has exported the snapshot is left: export it.
    Export,
    /// There is nothing to do now, but there may be.
    Wait,
    Nothing,
}

impl Board {
    pub(super) fn new(
        tasks: impl IntoIterator<Item = Task>,
        workers: usize,
        fills_cores: bool,
        export: Option<String>,
    ) -> Board {
        Board {
            state: Mutex::new(State {
                queue: tasks.into_iter().collect(),
                running: 0,
                alive: workers,
                workers,
                fills_cores,
                export: export.map(|id| (0, id)),
            }),
            changed: Notify::new(),
            over: watch::channel(None).0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends everything, and says why.
    pub(super) fn end(&self, why: &str) {
        self.over.send_replace(Some(why.to_string()));
        self.changed.notify_waiters();
    }

    /// Why everything ended.
    pub(super) fn why_over(&self) -> Option<String> {
        self.over.borrow().clone()
    }

    pub(super) fn over(&self) -> Over {
        self.over.subscribe()
    }

    /// Draws a task.
    pub(super) fn next(&self, may_export: bool) -> Next {
        let mut state = self.state();
        if self.over.borrow().is_some() {
            return Next::Nothing;
        }
        if may_export && state.export.is_none() {
            return Next::Export;
        }
        if let Some(mut task) = state.drawable().and_then(|at| state.queue.remove(at)) {
            task.tries += 1;
            task.may_spread = state.may_spread(&task);
            state.running += 1;
            return Next::Task(task);
        }
        match state.running == 0 && state.queue.is_empty() {
            true => Next::Nothing,
            false => Next::Wait,
        }
    }

    /// Waits until something may have changed. Nothing is missed that happens after `is_so` was asked.
    pub(super) async fn wait_while(&self, is_so: impl Fn(&Board) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !is_so(self) {
                return;
            }
            changed.await;
        }
    }

    /// Whether a worker would have to wait for a task.
    pub(super) fn is_idle(&self, may_export: bool) -> bool {
        let state = self.state();
        let is_over = self.over.borrow().is_some();
        let is_done = state.queue.is_empty() && state.running == 0;
        let is_something_to_do = state.drawable().is_some() || may_export && state.export.is_none();
        !(is_over || is_done || is_something_to_do)
    }

    /// A task is done; its ranges come next.
    pub(super) fn done(&self, ranges: Vec<Task>) {
        let mut state = self.state();
        state.running -= 1;
        for task in ranges.into_iter().rev() {
            state.queue.push_front(task);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// A task whose worker was lost; false when it was tried often enough.
    pub(super) fn give_back(&self, mut task: Task, why: &str) -> bool {
        let mut state = self.state();
        task.lost_by = Some(why.to_string());
        state.running -= 1;
        let again = task.tries < TRIES;
        if again {
            state.queue.push_back(task);
        }
        drop(state);
        self.changed.notify_waiters();
        again
    }

    /// A worker has lost its connection.
    pub(super) fn lost(&self, worker: usize) {
        let mut state = self.state();
        state.alive -= 1;
        if state.export.as_ref().is_some_and(|(exporter, _)| *exporter == worker) {
            state.export = None;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// A worker is there again.
    pub(super) fn joined(&self) {
        self.state().alive += 1;
        self.changed.notify_waiters();
    }

    /// A worker that was lost does not join again.
    pub(super) fn gone(&self) {
        self.state().workers -= 1;
        self.changed.notify_waiters();
    }

    /// A worker has exported the snapshot.
    pub(super) fn exported(&self, worker: usize, id: String) {
        self.state().export = Some((worker, id));
        self.changed.notify_waiters();
    }

    /// An id by which the snapshot can't be imported: somebody has to export it anew.
    pub(super) fn not_exported(&self, id: &str) {
        let mut state = self.state();
        if state.export.as_ref().is_some_and(|(_, known)| known == id) {
            state.export = None;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The id to import the snapshot by, when somebody has it and there is something left to do; none when there is no use in it.
    pub(super) async fn export_wanted(&self) -> Option<String> {
        self.wait_while(|board| {
            let state = board.state();
            let is_over = board.over.borrow().is_some();
            let is_work_left = !state.queue.is_empty() || state.running > 0;
            !is_over && is_work_left && state.alive > 0 && (state.export.is_none() || state.queue.is_empty())
        })
        .await;
        let state = self.state();
        let is_of_use = self.over.borrow().is_none() && !state.queue.is_empty() && state.alive > 0;
        state.export.as_ref().filter(|_| is_of_use).map(|(_, id)| id.clone())
    }

    /// The tasks that nobody took.
    pub(super) fn left(&self) -> Vec<Task> {
        self.state().queue.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_task_has_one_process_while_the_others_have_work_for_as_long() {
        let spread = |costs: &[Option<f64>], workers, fills_cores| {
            let task = |(i, cost): (usize, &Option<f64>)| Task {
                cost: *cost,
                ..Task::new(i, None)
            };
            let board = Board::new(costs.iter().enumerate().map(task), workers, fills_cores, None);
            let draw = || match board.next(false) {
                Next::Task(task) => Some(task.may_spread),
                _ => None,
            };
            std::iter::from_fn(draw).collect::<Vec<bool>>()
        };
        let costs = [5.0, 3.0, 2.0, 1.0].map(Some);
        assert_eq!(spread(&costs, 2, true), [false, false, true, true]);
        assert_eq!(spread(&costs, 3, true), [true; 4]);
        assert_eq!(spread(&[Some(1.0); 4], 3, true), [false, false, true, true]);
        assert_eq!(spread(&costs, 2, false), [true; 4], "there are cores left");
        assert_eq!(spread(&[None, Some(1.0), Some(1.0)], 2, true), [true, false, true]);
    }

    fn drawn(board: &Board) -> Option<usize> {
        match board.next(true) {
            Next::Task(task) => Some(task.check),
            _ => None,
        }
    }

    #[test]
    fn a_lost_task_comes_back_a_few_times() {
        let board = Board::new([Task::new(0, None)], 2, false, Some("id".into()));
        for again in [true, true, false] {
            let Next::Task(task) = board.next(true) else {
                panic!("there is a task")
            };
            assert!(matches!(board.next(true), Next::Wait), "it may come back");
            assert_eq!(board.give_back(task, ""), again);
        }
        assert!(matches!(board.next(true), Next::Nothing));
    }

    #[test]
    fn ranges_come_before_other_checks_and_in_order() {
        let board = Board::new([Task::new(0, None), Task::new(1, None)], 1, false, None);
        assert_eq!(drawn_alone(&board), Some((0, None)));
        let range = |nth| Range { nth, from: 0, to: 1 };
        board.done(vec![Task::new(0, Some(range(0))), Task::new(0, Some(range(1)))]);
        assert_eq!(drawn_alone(&board), Some((0, Some(0))));
        assert_eq!(drawn_alone(&board), Some((0, Some(1))));
        assert_eq!(drawn_alone(&board), Some((1, None)));
    }

    fn drawn_alone(board: &Board) -> Option<(usize, Option<usize>)> {
        match board.next(false) {
            Next::Task(task) => Some((task.check, task.range.map(|r| r.nth))),
            _ => None,
        }
    }

    #[test]
    fn when_the_exporter_is_lost_somebody_else_exports() {
        let board = Board::new([Task::new(0, None), Task::new(1, None)], 2, false, Some("a".into()));
        assert_eq!(board.export_wanted().now_or_never(), Some(Some("a".into())));
        board.lost(0);
        assert_eq!(
            board.export_wanted().now_or_never(),
            None,
            "somebody alive may export it"
        );
        assert!(matches!(board.next(true), Next::Export));
        board.exported(1, "b".into());
        assert_eq!(board.export_wanted().now_or_never(), Some(Some("b".into())));
        board.lost(1);
        assert_eq!(
            board.export_wanted().now_or_never(),
            Some(None),
            "nobody has it any more"
        );
        assert_eq!(board.left().len(), 2);
    }

    #[test]
    fn what_has_cost_a_connection_waits_for_those_who_are_lost() {
        let board = Board::new([Task::new(0, None), Task::new(1, None)], 2, false, Some("a".into()));
        let Next::Task(task) = board.next(true) else {
            panic!("there is a task")
        };
        board.give_back(task, "lost");
        board.lost(1);
        assert_eq!(drawn(&board), Some(1), "the other one comes first");
        board.done(Vec::new());
        assert!(matches!(board.next(true), Next::Wait) && board.is_idle(true));
        board.joined();
        assert!(!board.is_idle(true));
        assert_eq!(drawn(&board), Some(0));
        let board = Board::new([], 2, false, Some("a".into()));
        assert!(!board.is_idle(true), "there is nothing to wait for");
    }

    #[test]
    fn nothing_is_begun_when_everything_is_over() {
        let board = Board::new([Task::new(0, None)], 1, false, Some("a".into()));
        board.end("interrupted");
        assert_eq!(drawn(&board), None);
        assert_eq!(board.why_over().as_deref(), Some("interrupted"));
        assert_eq!(board.export_wanted().now_or_never(), Some(None));
    }
}
