"""Measurements: ours, and ours beside the peers. Each prints its table; none is run by the tests."""
