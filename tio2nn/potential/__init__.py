"""The trained potential, independent of the libraries that trained it."""
