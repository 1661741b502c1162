"""What both models are run on: example inputs filled, paired, drawn anew, and seen through where they cannot tell.

- `uses`: what a model does with an input (looks rows up, masks, counts positions), read off its graph.
- `content`: content for inputs of which only the shape is given.
- `plan`: which input of one model is which of the other's, and fresh content for both.
- `telling`: inputs that cannot tell a right mapping from a wrong one, and inputs that should agree and do not.
"""
