"""l3net: a routed pod network. Pods and services are plain IP destinations, advertised over BGP."""

from l3net.late import install

__version__ = "0.1.0"
install()
