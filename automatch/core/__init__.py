"""Data only: graphs, expressions, evidence, mappings. Knows no torch and imports no other stage."""
