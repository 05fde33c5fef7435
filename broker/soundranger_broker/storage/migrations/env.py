"""What alembic runs: the migrations, on the connection that it was given."""

from alembic import context

from soundranger_broker.storage.tables import METADATA

# SQLite alters a table by making a new one.
context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
