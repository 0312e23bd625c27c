"""Read the command line and run its commands. Only this package knows click."""
