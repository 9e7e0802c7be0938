"""The search for network settings: trials, their ledger, and the oracles that propose them."""
