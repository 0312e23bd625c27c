"""The runtime's side of the conversation: it reads requests, has the function called, and sends outcomes."""
