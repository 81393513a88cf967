"""Physical laws of the environments, one law per function.

- `radio`: path loss, noise, signal-to-noise ratio, Shannon rate and its inverse, fading.
- `compute`: execution time, energy of processors and of transmission.
- `arrivals`: random numbers of a slot.
- `mobility`: positions, zones, coverage on a periodic road, external traces.
- `graphs`: networks of servers: links, connectivity, shortest paths.

Every function but those of `graphs` is elementwise over arrays of any broadcastable shapes, works
under `jit`, `vmap` and differentiation, and keeps the dtype of its array arguments (float32 stays
float32 when x64 is on).
"""

from jaxenv.physics import arrivals, compute, graphs, mobility, radio

__all__ = ["arrivals", "compute", "graphs", "mobility", "radio"]
