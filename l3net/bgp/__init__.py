"""BGP decisions: paths, policy, Adj-RIB-Out, Loc-RIB, ExaBGP configuration and message codec. No I/O."""
