-- /// db-race check
-- id       = "saga.step_after_abort"
-- title    = "No step is done after its saga was aborted"
-- severity = "error"
-- key      = ["step_id"]
-- tags     = ["saga", "order"]
-- remedy   = "let a step lock its saga's row and look at its state; a step that was under way when the saga was aborted is never undone"
--
-- [needs]
-- saga      = ["saga_id", "aborted_at"]
-- saga_step = ["step_id", "saga_id", "is_compensation", "done_at"]
-- ///
select step_id, saga_id, saga.aborted_at, saga_step.done_at
from saga_step
join saga using (saga_id)
where saga_step.done_at > saga.aborted_at and not coalesce(saga_step.is_compensation, false)
order by step_id;
