"""Design spaces: how the operator is computed, one module per kind of target."""
