-- A hotel sells rooms by type and night. A guest first holds rooms for some minutes (tentative), then confirms
-- (booked) and gets room numbers; a hold that is not confirmed in time is taken back by a sweeper.
--
-- room_inventory keeps counters so that "is anything free?" reads one row a night. Every counter repeats what the
-- rows of booking_holds and booking_details say; checks/hotel/ compares the two.

create table room_types (
    room_type_id int  primary key,
    name         text not null unique
);

-- There is no CHECK (booked_count + tentative_count <= allotment) on purpose: it would turn an overbooking into an
-- error, and the race could no longer show who was promised the same room. The procedures have to get it right.
create table room_inventory (
    room_type_id    int  not null references room_types,
    date            date not null,
    allotment       int  not null check (allotment >= 0),
    booked_count    int  not null default 0 check (booked_count >= 0),
    tentative_count int  not null default 0 check (tentative_count >= 0),
    primary key (room_type_id, date)
);

create table booking_holds (
    hold_id      bigint      generated always as identity primary key,
    room_type_id int         not null references room_types,
    nights       date[]      not null
                             check (cardinality(nights) > 0 and array_position(nights, null) is null),
    quantity     int         not null check (quantity > 0),
    guest        bigint      not null,
    status       text        not null default 'active'
                             check (status in ('active', 'confirmed', 'released', 'expired')),
    hold_expiry  timestamptz not null,
    created_at   timestamptz not null default now()
);

create index on booking_holds (room_type_id);

-- What the sweeper looks for; finished holds stay out of the index.
create index on booking_holds (hold_expiry) where status = 'active';

create table bookings (
    booking_id bigint      generated always as identity primary key,
    hold_id    bigint      not null unique references booking_holds, -- one hold, one booking
    guest      bigint      not null,
    status     text        not null default 'confirmed' check (status in ('confirmed', 'cancelled')),
    created_at timestamptz not null default now()
);

-- One row a booked room and night. A cancelled booking has none: its numbers are free to be given out again.
create table booking_details (
    booking_detail_id bigint generated always as identity primary key,
    booking_id        bigint not null references bookings,
    room_type_id      int    not null,
    date              date   not null,
    room_number       int    not null check (room_number > 0),
    foreign key (room_type_id, date) references room_inventory,
    unique (room_type_id, date, room_number)
);

create index on booking_details (booking_id);
