"""What was decided on a node, when and why: a bounded ring of entries, and who asks for which of them."""
