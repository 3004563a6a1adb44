"""From workloads to bundles: the definition, its design spaces, tuning, and libraries. Needs TVM."""
