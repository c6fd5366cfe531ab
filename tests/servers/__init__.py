"""Servers for tests: PostgreSQL and Redis as they are, on spare ports, and a proxy that breaks what is between."""
