"""A mapping -> rules that hold for every layer."""
