"""BGP decisions: paths, policy, Adj-RIB-Out, Loc-RIB, and the ExaBGP configuration and message codec. No I/O."""
