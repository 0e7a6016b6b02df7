"""The CNI server: accepts a call, plans it, applies the plan, and keeps up what it made."""
