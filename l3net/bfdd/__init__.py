"""The BFD process: sessions of RFC 5880 at real-time priority, and its end of the line to the agent."""
