"""The five Grafana dashboards and the recording rules behind them, as code.

Imports the metric objects and nothing else of the application: a renamed metric breaks the build, not a panel. What is
built is committed under monitoring/; a test fails where that is not what this code builds.
"""

import importlib
import warnings

# The library warns while it is imported: it would rather have us write Grafana's next format. That one neither
# Grafana 11 nor an import by hand knows; the classic one is read by all.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    for name in ("dashboard", "prometheus"):
        importlib.import_module(f"grafana_foundation_sdk.builders.{name}")
