-- The memory of audits, version 1. Sent in one transaction.
create schema db_race_audit;
comment on schema db_race_audit is 'the memory of db-race audit';

create table db_race_audit.version (version int4 not null);
insert into db_race_audit.version values (1);

create table db_race_audit.run (
    id            int8 generated always as identity primary key,
    suite         text        not null,  -- which checks on which databases, as asked for
    started_at    timestamptz not null,
    ended_at      timestamptz,           -- none: it was killed
    exit_code     int4,
    complete      bool        not null default false,  -- whether what it saw is remembered
    checks        int8        not null default 0,
    new           int8        not null default 0,
    came_back     int8        not null default 0,
    open          int8        not null default 0,
    fixed         int8        not null default 0,
    check_changed int8        not null default 0,
    not_looked_at int8        not null default 0,
    waived        int8        not null default 0,
    duration_ms   int8
);
create index run_suite on db_race_audit.run (suite, id);

-- how a check came out in a run
create table db_race_audit.look (
    run_id        int8 not null references db_race_audit.run on delete cascade,
    database      text not null,
    check_id      text not null,
    decision      text not null,
    level         text not null,
    count         int8 not null,
    is_capped     bool not null,
    new           int8 not null,
    came_back     int8 not null,
    open          int8 not null,
    fixed         int8 not null,
    check_changed int8 not null,
    not_looked_at int8 not null,
    waived        int8 not null,
    primary key (run_id, database, check_id)
);

-- how a check came out when it was last run, and what it asked when it was last decided
create table db_race_audit.subject (
    database      text not null,
    check_id      text not null,
    fingerprint   text not null,
    decision      text not null,
    level         text not null,
    waived        int8 not null,
    primary key (database, check_id)
);

create table db_race_audit.finding (
    database      text        not null,
    check_id      text        not null,
    key           jsonb       not null,  -- key columns by name
    first_seen    timestamptz not null,
    last_seen     timestamptz not null,
    open_since    timestamptz not null,
    times_seen    int8        not null,
    times_back    int8        not null,
    closed_at     timestamptz,           -- none: it is open
    closed_why    text check (closed_why in ('fixed', 'check_changed')),
    primary key (database, check_id, key)
);
