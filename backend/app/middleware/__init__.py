"""Pure ASGI middleware. Outermost first: correlation, http_metrics, errors."""
