"""Jobs: what ran in the background, for which request, with which outcome."""
