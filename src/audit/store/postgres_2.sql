-- Version 2: what happened to each finding, its row and its waiver; checks that are gone from their suite; findings that are retired.
alter table db_race_audit.finding drop constraint finding_closed_why_check;
alter table db_race_audit.finding
    add constraint finding_closed_why_check check (closed_why in ('fixed', 'check_changed', 'retired')),
    add column sample jsonb,  -- its row when a report last showed it, masked: a list of [column, value]
    add column waiver jsonb;  -- the waiver that covered it when it was last seen

create table db_race_audit.event (
    database      text        not null,
    check_id      text        not null,
    key           jsonb       not null,
    at            timestamptz not null,
    what          text        not null,  -- new, came_back, fixed, check_changed, retired
    why           text                   -- the reason that was given
);
create index event_finding on db_race_audit.event (database, check_id, key);
create index event_at on db_race_audit.event (at);
-- as far as it is known
insert into db_race_audit.event select database, check_id, key, first_seen, 'new', null from db_race_audit.finding;
insert into db_race_audit.event
    select database, check_id, key, open_since, 'came_back', null from db_race_audit.finding where times_back > 0;
insert into db_race_audit.event
    select database, check_id, key, closed_at, closed_why, null from db_race_audit.finding where closed_at is not null;

-- the run that had the check last
alter table db_race_audit.subject add column last_run int8 not null default 0;

-- which checks a suite has had, by runs that left none of its checks out
create table db_race_audit.member (
    suite         text not null,  -- the files, folders and bundled names that it is made of
    database      text not null,
    check_id      text not null,
    missed_in     int8,           -- the first run in which it was no longer there
    primary key (suite, database, check_id)
);
update db_race_audit.version set version = 2;
