"""The CNI specification: its codec, its verbs and the plan of a sandbox. No I/O."""
