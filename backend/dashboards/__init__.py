"""The five Grafana dashboards and the recording rules behind them, as code.

Imports the metric objects and nothing else of the application: a renamed metric breaks the build, not a panel. What is
built is committed under monitoring/; a test fails where that is not what this code builds.
"""
