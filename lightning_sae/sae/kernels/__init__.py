"""Computing with sparse latents: selections, and products of them with rows, on a GPU by Triton."""
