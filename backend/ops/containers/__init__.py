"""What containers need beside the service itself."""
