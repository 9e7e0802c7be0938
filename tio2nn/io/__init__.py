"""Formats of structure files; nothing else in the program opens one."""
