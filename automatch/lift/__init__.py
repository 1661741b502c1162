"""Too large to run: what was proved on small models of the same code, carried over to full size.

`lift` takes the exact mapping between two small twins and the recordings of all four models; those of full size may be
on the meta device.
"""

from automatch.lift.lifting import lift

__all__ = ["lift"]
