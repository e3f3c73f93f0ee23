"""zerocopy streams columnar market data from day files to charts and models."""

__version__ = "0.1.0"
