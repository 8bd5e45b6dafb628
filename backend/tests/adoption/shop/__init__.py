"""A small service of another team: orders come in over HTTP, a worker packs them. It has the layer, no more of ours."""
