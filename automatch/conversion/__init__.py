"""`MappingRecord` x `Catalog` -> files for the target, or the weights of a model: in bounded memory, at disk speed."""
