"""A mapping against what is expected of it."""
