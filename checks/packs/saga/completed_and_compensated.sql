-- /// db-race check
-- id       = "saga.completed_and_compensated"
-- title    = "No saga is both completed and undone"
-- severity = "error"
-- key      = ["saga_id"]
-- tags     = ["saga", "integrity"]
-- remedy   = "decide in one statement: update ... where not completed and not compensated, and look at the number of rows; a timeout raced with the last step"
--
-- [needs]
-- saga      = ["saga_id", "is_completed", "is_compensated"]
-- saga_step = ["saga_id", "is_compensation", "done_at"]
-- ///
--
-- As its own row says, or as a compensation among its steps says.
select saga_id, is_completed, is_compensated
from saga
where
    is_completed
    and (
        is_compensated
        or exists (
            select
            from saga_step
            where saga_step.saga_id = saga.saga_id and saga_step.is_compensation and saga_step.done_at is not null
        )
    )
order by saga_id;
