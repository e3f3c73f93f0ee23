"""The service behind `[auth]`; imported only where that is on."""
