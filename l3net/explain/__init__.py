"""Why something is reachable or not: facts of one moment in, steps out, with one answer and one advice."""
