"""A project directory: its paths, its stores, and how its parts hang together."""
