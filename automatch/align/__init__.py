"""Who corresponds to whom: by structure where both sides have code, by names and shapes where one has none."""
