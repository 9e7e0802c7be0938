"""The verbs: the work of each command, without terminal output."""
