"""`zerocopy doctor`: what the configuration needs of the machine, and what it would gain."""
