-- A role for `db-race verify` and `db-race audit`: it reads everything, and may do nothing else.
--
-- Run it with psql, as a superuser or as the owner of the database, in each database that is to be checked:
--
--     psql -v password="'secret'" -d app -f db_race_check.sql
--     db-race verify hotel --url postgresql://db_race_check:secret@localhost/app
--
-- Without a password it can log in where pg_hba.conf asks for none (peer, trust, cert). It may be run again at any time.
--
-- What it leaves out:
-- * Tables with row-level security: a check that would see a part of the rows only is not decided. To let the role see all of
--   them: ALTER ROLE db_race_check BYPASSRLS;
-- * In PostgreSQL 13, tables that other roles than the one that runs this create later: let these roles run the
--   ALTER DEFAULT PRIVILEGES below, too.
-- * Ending other sessions of its own: PostgreSQL lets every role do that.
-- * SECURITY DEFINER functions, which write as their owner: PostgreSQL lets every role call them, unless you REVOKE EXECUTE ON
--   FUNCTION ... FROM PUBLIC. In a read-only transaction they can't write either, but over another connection (dblink) they can.

\set ON_ERROR_STOP on
\if :{?password} \else \set password null \endif

SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'db_race_check') AS is_new,
    current_setting('server_version_num')::int >= 140000 AS has_read_all \gset

\if :is_new
CREATE ROLE db_race_check;
\endif
-- two workers on eight databases at once, and room for who ends what doesn't end
ALTER ROLE db_race_check LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 20 PASSWORD :password;

-- what db-race sets by itself in each transaction; here for whoever else logs in as this role
ALTER ROLE db_race_check SET default_transaction_read_only = on;
ALTER ROLE db_race_check SET statement_timeout = '10min';
ALTER ROLE db_race_check SET lock_timeout = '10s';
ALTER ROLE db_race_check SET idle_in_transaction_session_timeout = '10min';

-- sees what sessions do, for the checks of checks/structure
GRANT pg_monitor TO db_race_check;

\if :has_read_all
GRANT pg_read_all_data TO db_race_check;
\else
SELECT format('GRANT USAGE ON SCHEMA %1$I TO db_race_check;
    GRANT SELECT ON ALL TABLES IN SCHEMA %1$I TO db_race_check;
    GRANT SELECT ON ALL SEQUENCES IN SCHEMA %1$I TO db_race_check;
    ALTER DEFAULT PRIVILEGES IN SCHEMA %1$I GRANT SELECT ON TABLES TO db_race_check', nspname)
FROM pg_catalog.pg_namespace
WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema' \gexec
\endif
