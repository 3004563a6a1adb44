"""The search for one workload: design space, measuring process, log."""
