"""Run any program under a plain init, for `pipe-init exec`. This folder knows neither the protocol nor requests."""
