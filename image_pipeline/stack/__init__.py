"""A deployed stack seen from outside: uploads, failures, replay, backfill, costs, smoke test."""
