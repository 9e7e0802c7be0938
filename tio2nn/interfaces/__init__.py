"""Interfaces to other programs; each module may import its program."""
