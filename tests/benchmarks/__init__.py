"""What a match costs in time and memory: `python -m tests.benchmarks` prints tables. Not part of the tests."""
