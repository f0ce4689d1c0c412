\set room_type random(1, 100)
\set night random(0, 99)
select hold_id from create_booking_hold(:room_type, array[date '2030-06-01' + :night::int], 1, :client_id);
