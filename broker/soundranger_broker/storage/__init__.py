"""Storage: what the centre remembers, in SQLite or PostgreSQL, and the log that nobody can edit unseen."""
