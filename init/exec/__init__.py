"""The plain init of `pipe-init exec`. It knows the kernel only: no protocol and no requests."""
