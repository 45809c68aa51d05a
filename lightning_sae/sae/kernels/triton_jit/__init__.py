"""The programs that Triton compiles for a GPU; `triton_selection` and `triton_products` launch them.

Tensors are contiguous. Sums are in float32, in a fixed order: atomics count, and never add floats.
"""
