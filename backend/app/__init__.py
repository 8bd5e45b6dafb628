"""CommandCenter, the service: API, worker and beat."""
