"""Fast versions of ops, for the processor (numba) and for NVIDIA GPUs (CUDA), and what they share."""
