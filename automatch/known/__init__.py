"""Known conversions, and what they suggest for models that nobody has mapped."""
