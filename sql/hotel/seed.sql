-- Three room types, two weeks of nights, nothing held or booked. Fixed dates far ahead: every run sees the same.

insert into room_types (room_type_id, name)
values (1, 'Double'), (2, 'Twin'), (3, 'Suite');

insert into room_inventory (room_type_id, date, allotment)
select t.room_type_id, date '2030-06-01' + n, t.allotment
from (values (1, 10), (2, 5), (3, 2)) as t (room_type_id, allotment)
cross join generate_series(0, 13) as n;
