-- Version 2: what happened to each finding, its row and its waiver; checks that are gone from their suite; findings that are retired.
create table finding_2 (
    database      text    not null,
    check_id      text    not null,
    key           text    not null,  -- a JSON object: key columns by name
    first_seen    text    not null,
    last_seen     text    not null,
    open_since    text    not null,
    times_seen    integer not null,
    times_back    integer not null,
    closed_at     text,              -- none: it is open
    closed_why    text check (closed_why in ('fixed', 'check_changed', 'retired')),
    sample        text,              -- its row when a report last showed it, masked: a JSON list of [column, value]
    waiver        text,              -- the waiver that covered it when it was last seen, in JSON
    primary key (database, check_id, key)
) without rowid;
insert into finding_2 select f.*, null, null from finding f;
drop table finding;
alter table finding_2 rename to finding;

create table event (
    database      text    not null,
    check_id      text    not null,
    key           text    not null,
    at            text    not null,
    what          text    not null,  -- new, came_back, fixed, check_changed, retired
    why           text               -- the reason that was given
);
create index event_finding on event (database, check_id, key);
create index event_at on event (at);
-- as far as it is known
insert into event select database, check_id, key, first_seen, 'new', null from finding;
insert into event select database, check_id, key, open_since, 'came_back', null from finding where times_back > 0;
insert into event select database, check_id, key, closed_at, closed_why, null from finding where closed_at is not null;

-- the run that had the check last
alter table subject add column last_run integer not null default 0;

-- which checks a suite has had, by runs that left none of its checks out
create table member (
    suite         text    not null,  -- the files, folders and bundled names that it is made of
    database      text    not null,
    check_id      text    not null,
    missed_in     integer,           -- the first run in which it was no longer there
    primary key (suite, database, check_id)
) without rowid;
