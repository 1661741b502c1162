"""Mapping x checkpoint -> checkpoint: expressions computed on tensors, in memory and from file to file."""
