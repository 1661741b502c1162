"""Proving: run both models on fresh random weights, and say of every target weight what the outputs showed.

A mapping is frozen before it is run. Three draws and more of *all* source weights go through it; both models, in
float64 and on the same fresh inputs, must give the same outputs, elementwise. What that shows of one weight depends on
whether an output would have told: one backward pass with random cotangents gives the influence of each of its elements.

The criteria, all of which must hold before a weight is called proved:

1. In every draw the largest difference is at most 1e-9 of the output's scale (`conversion.EXACT`), or 1e-5 where a
   model has numbers in float32 (`conversion.TOLERANCE`, `precision`); the output was seen to vary between draws, and
   nothing was infinite. Where both models take shorter inputs, they agree on some.
2. Changing every living weight by a hundredth moves the outputs by 100 times the measured gap, and by 1e-5 at least.
3. Every element of the weight, wrong by the spread of its tensor, would have moved the outputs by 100 times their
   measured distance (`influence.MARGIN`) and by 1e-6 of their scale (`influence.FLOOR`), in at least one draw.
4. No two elements of it have the same gradient in all draws: those could have been exchanged unseen.
"""

from automatch.prove.conversion import Proof, prove_conversion
from automatch.prove.proof import prove, with_proof

__all__ = ["Proof", "prove", "prove_conversion", "with_proof"]
