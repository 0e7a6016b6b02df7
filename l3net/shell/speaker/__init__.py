"""ExaBGP and its relay: run, configured, and changed where 5.0.15 breaks a promise."""
