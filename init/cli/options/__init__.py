"""The options of a run: how they are declared, and what they are. It does not know what they mean."""
