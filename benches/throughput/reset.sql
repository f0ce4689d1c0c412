-- before each run; one statement a line, because vacuum must be alone
truncate pgbench_history;
truncate booking_holds cascade;
vacuum counters;
vacuum room_inventory;
vacuum pgbench_accounts;
vacuum pgbench_tellers;
vacuum pgbench_branches;
