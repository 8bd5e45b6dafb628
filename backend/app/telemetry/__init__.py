"""Logs, SQL, tasks, outgoing calls: each hook fails open and counts its failure."""
