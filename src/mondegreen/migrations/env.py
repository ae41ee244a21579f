"""How Alembic runs the migrations in versions/: on the connection, and in the transaction, of `mondegreen.schema`."""

from alembic import context

context.configure(**context.config.attributes["context"])
context.run_migrations()
