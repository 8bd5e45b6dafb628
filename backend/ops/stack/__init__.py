"""The native stack: PostgreSQL, Redis, our services and their watchers as ordinary processes of this machine."""
