-- /// db-race check
-- id       = "saga.compensation_without_step"
-- title    = "Only what was done is undone, in its own saga, and once"
-- severity = "error"
-- key      = ["step_id"]
-- tags     = ["saga", "integrity"]
-- remedy   = "make compensates_id unique, and read what was done under a lock on the saga; undoing what never was gives away money or stock"
--
-- [needs]
-- saga_step = ["step_id", "saga_id", "compensates_id", "is_compensation", "done_at"]
-- ///
with compensation as (
    select
        step_id,
        saga_id,
        compensates_id,
        row_number() over (partition by compensates_id order by done_at, step_id) as nth
    from saga_step
    where is_compensation and done_at is not null
)
select step_id, saga_id, compensates_id, nth as times_undone
from compensation
where
    (compensates_id is not null and nth > 1)
    or not exists (
        select
        from saga_step as original
        where
            original.step_id = compensation.compensates_id
            and original.saga_id = compensation.saga_id
            and original.done_at is not null
    )
order by step_id;
