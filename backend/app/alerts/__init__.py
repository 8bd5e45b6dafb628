"""Alerts: a copy of what Alertmanager tells people."""
