"""Make every decision, as pure functions of event and time. It knows no clock, descriptor or process."""
