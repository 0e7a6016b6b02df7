"""All that names ExaBGP in text: its configuration, its commands, its messages. Pure."""
