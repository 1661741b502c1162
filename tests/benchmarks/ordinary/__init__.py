"""What an ordinary match of well-known models costs: `python -m tests.benchmarks.ordinary` prints a table."""
