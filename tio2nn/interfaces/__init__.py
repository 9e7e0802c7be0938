"""Guests of the house: other programs' view of a `Potential`, each in a module that may import its program."""
