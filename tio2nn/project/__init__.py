"""The project directory: its paths, its stores, and the state of its parts."""
