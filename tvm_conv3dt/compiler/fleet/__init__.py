"""Measuring on boards of a fleet, through TVM's RPC: what runs here, and what runs on a board."""
