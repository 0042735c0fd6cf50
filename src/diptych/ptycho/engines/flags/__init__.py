"""Flags of a reconstruction: too little data, over-fitting, and readings of the scan that cannot be right.

``base`` names the kinds, ``evidence`` collects the numbers, ``data`` and ``misfit`` decide, ``trials`` finds out which
reading of the scan fits.
"""
