"""What a cluster of thousands of nodes costs: an API server's clients, one agent, sessions, convergence."""
