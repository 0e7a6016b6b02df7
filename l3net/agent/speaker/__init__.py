"""The agent's BGP side: what is said to ExaBGP, and what its peers say."""
