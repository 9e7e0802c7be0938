"""The parameter set: its sections, presets and recipes, what they allow and what they mean."""
