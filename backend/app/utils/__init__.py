"""Holds metrics.py and nothing else."""
