\set id random(1, 10000)
update counters set n = n + 1 where id = :id;
