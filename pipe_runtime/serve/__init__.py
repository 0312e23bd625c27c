"""The runtime's side of the conversation: which requests run, and in what."""
