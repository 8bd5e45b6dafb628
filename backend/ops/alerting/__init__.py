"""Who is told of which alert: its stage is read from and written to monitoring/prometheus.yml."""
