"""Measures and checks any callable that computes a workload: on this machine or on a board, without the compiler."""
