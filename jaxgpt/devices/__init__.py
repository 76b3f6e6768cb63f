"""Devices and processes: the mesh, several processes of one run, the allocator, JAX set up."""
