"""The decisions: who is connected, who gets what, which worker is next.

Synchronous and without I/O: the core reads no clock, opens no socket and awaits nothing. What it needs of the outside
it is given (`ports`), so its tests are plain calls.
"""
