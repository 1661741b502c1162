"""Random pairs of small networks that compute the same function, written in two random styles.

A `Net` says what is computed, a `Style` how it is written down; `draw_pair` makes both sides and the conversion between
them, which is known because both are written from one set of canonical weights. `judge` says what a mapping is worth.
"""
