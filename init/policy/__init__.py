"""Decide what to do about workers and requests. The decisions depend only on events and on the times passed in."""
