"""Token store in PostgreSQL, which several processes may share; needs the extra `postgres`."""
