"""The one import of the library that warns: it would rather have us write Grafana's next format.

That one neither Grafana 11 nor an import by hand knows; the classic format is read by all, so we write it.
"""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import dashboard

__all__ = ["dashboard"]
