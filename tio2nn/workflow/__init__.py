"""The verbs: what each command does, without a word to the terminal."""
