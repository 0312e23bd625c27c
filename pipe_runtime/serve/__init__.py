"""Hold the runtime's side of the conversation: read requests, call the function, and send outcomes."""
