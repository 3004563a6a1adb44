"""Generated CUDA C, compiled as C++ and executed on the CPU: what no GPU is at hand for."""
