"""The CNI specification: its codec, its verbs and the plan of a sandbox. No I/O: it says what to do and the shell does it."""
