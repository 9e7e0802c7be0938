"""The search for network settings: trials, their ledger, the oracles that choose them."""
