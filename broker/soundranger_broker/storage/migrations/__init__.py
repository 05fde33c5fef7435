"""Migrations: from each schema version to the next."""
