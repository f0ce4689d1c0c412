-- what pgbench -i has not made; the hotel is installed already
create table counters (id int primary key, n int not null default 0);
insert into counters (id) select generate_series(1, 10000);

-- a hotel of 100 room types and 100 nights, with rooms for all
truncate room_types cascade;
insert into room_types (room_type_id, name) select n, 'Type ' || n from generate_series(1, 100) as n;
insert into room_inventory (room_type_id, date, allotment)
select room_type_id, date '2030-06-01' + n, 1000000000 from room_types cross join generate_series(0, 99) as n;
analyze;
