"""Random calls through the public entry points: legal ones against oracles, illegal ones against the rules."""
