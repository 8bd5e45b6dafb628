"""Add exporter_user for postgres_exporter: it reads statistics (pg_monitor) and nothing else.

A role belongs to the whole server, not to this database: another database's migration may have made it already, and
may need it still. No password here: it is set out of band as a SCRAM verifier, and until then nobody can log in.
"""

from alembic import op

revision = "d3e92d35ba2f"
down_revision = "d4dff12b63d6"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the role unless it is there, and give it what it lacks."""
    # Each step looks first: beside a second database the role may belong to somebody whom we can't overrule.
    op.execute(
        """
        DO $$
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'exporter_user') THEN
                BEGIN
                    CREATE ROLE exporter_user LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN
                    NULL;  -- Another migration was faster.
                END;
            END IF;
            IF NOT (SELECT rolcanlogin FROM pg_roles WHERE rolname = 'exporter_user') THEN
                ALTER ROLE exporter_user LOGIN;
            END IF;
            IF NOT pg_has_role('exporter_user', 'pg_monitor', 'MEMBER') THEN
                GRANT pg_monitor TO exporter_user;
            END IF;
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO exporter_user', current_database());
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE EXCEPTION 'role % may not set up exporter_user: %', current_user, SQLERRM
                USING ERRCODE = 'insufficient_privilege', HINT = format(
                    'As a superuser: ALTER ROLE %I CREATEROLE; GRANT pg_monitor TO %I WITH ADMIN OPTION;',
                    current_user, current_user);
        END
        $$
        """
    )


def downgrade() -> None:
    """Take the role's access to this database away, and the role itself unless another database needs it.

    Never fails: a role that can't be dropped must not stop a rollback. One that nobody needs any more but that stays
    can at least not log in.
    """
    op.execute(
        """
        DO $$
        DECLARE
            this_database oid := (SELECT oid FROM pg_database WHERE datname = current_database());
            needed_elsewhere boolean;
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'exporter_user') THEN
                RETURN;
            END IF;
            EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM exporter_user', current_database());
            SELECT EXISTS (
                SELECT FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
                WHERE d.refclassid = 'pg_authid'::regclass AND r.rolname = 'exporter_user'
                  -- A grant on a whole database, or on something that lies in one.
                  AND CASE WHEN d.dbid <> 0 THEN d.dbid <> this_database
                      ELSE d.classid = 'pg_database'::regclass AND d.objid <> this_database END
            ) INTO needed_elsewhere;
            IF needed_elsewhere THEN
                RAISE NOTICE 'exporter_user stays: another database of this server grants to it';
                RETURN;
            END IF;
            BEGIN
                ALTER ROLE exporter_user NOLOGIN;
            EXCEPTION WHEN OTHERS THEN
                RAISE NOTICE 'exporter_user could not be barred from logging in: %', SQLERRM;
            END;
            BEGIN
                DROP ROLE exporter_user;
            EXCEPTION WHEN OTHERS THEN
                RAISE NOTICE 'exporter_user could not be dropped: %', SQLERRM;
            END;
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE 'exporter_user was left as it is: %', SQLERRM;
        END
        $$
        """
    )
