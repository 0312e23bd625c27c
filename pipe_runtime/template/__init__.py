"""Run the template, the process that loads the function once and forks workers. It serves no request of the init."""
