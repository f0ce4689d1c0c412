-- The memory of audits, version 1. Times are RFC 3339 in UTC, so that they sort as text.
create table run (
    id            integer primary key,
    suite         text    not null,  -- which checks on which databases, as asked for
    started_at    text    not null,
    ended_at      text,              -- none: it was killed
    exit_code     integer,
    complete      integer not null default 0,  -- whether what it saw is remembered
    checks        integer not null default 0,
    new           integer not null default 0,
    came_back     integer not null default 0,
    open          integer not null default 0,
    fixed         integer not null default 0,
    check_changed integer not null default 0,
    not_looked_at integer not null default 0,
    waived        integer not null default 0,
    duration_ms   integer
);
create index run_suite on run (suite, id);

-- how a check came out in a run
create table look (
    run_id        integer not null references run on delete cascade,
    database      text    not null,
    check_id      text    not null,
    decision      text    not null,
    level         text    not null,
    count         integer not null,
    is_capped     integer not null,
    new           integer not null,
    came_back     integer not null,
    open          integer not null,
    fixed         integer not null,
    check_changed integer not null,
    not_looked_at integer not null,
    waived        integer not null,
    primary key (run_id, database, check_id)
) without rowid;

-- how a check came out when it was last run, and what it asked when it was last decided
create table subject (
    database      text    not null,
    check_id      text    not null,
    fingerprint   text    not null,
    decision      text    not null,
    level         text    not null,
    waived        integer not null,
    primary key (database, check_id)
) without rowid;

create table finding (
    database      text    not null,
    check_id      text    not null,
    key           text    not null,  -- a JSON object: key columns by name
    first_seen    text    not null,
    last_seen     text    not null,
    open_since    text    not null,
    times_seen    integer not null,
    times_back    integer not null,
    closed_at     text,              -- none: it is open
    closed_why    text check (closed_why in ('fixed', 'check_changed')),
    primary key (database, check_id, key)
) without rowid;
