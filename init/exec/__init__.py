"""Run any program under a plain init, for `pipe-init exec`. It knows the kernel only: no protocol and no requests."""
