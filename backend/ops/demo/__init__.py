"""A tour of the running system with real repositories, over its REST API alone."""
