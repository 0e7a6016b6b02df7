"""BGP as octets, for those who only read it: MRT files and BMP collectors. ExaBGP speaks to peers."""
