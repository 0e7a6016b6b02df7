"""The looking glass: a read-only web page and JSON API over what agents say, in a process of its own.

It decides nothing and changes nothing: it asks, filters, pages and draws. An agent or a node that does not
answer costs the others nothing.
"""
