"""Sample data and certificates, for a machine that has no real ones. It must know no command."""
