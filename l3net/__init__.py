"""l3net: a routed pod network. Pods and services are plain IP destinations, advertised over BGP."""

__version__ = "0.1.0"
