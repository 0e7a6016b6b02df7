"""What the agent measures: a row a family, by subject. All of it is read when somebody asks."""
