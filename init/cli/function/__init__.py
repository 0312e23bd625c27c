"""Make the description of the function to run, with its limits, from the options. This folder does
not know how workers are started."""
