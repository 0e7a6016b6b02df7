"""Click commands and composition roots."""
