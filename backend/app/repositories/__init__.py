"""Repositories: what the team watches."""
