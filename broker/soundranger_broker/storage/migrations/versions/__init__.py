"""One module a schema version; alembic finds them here."""
