"""Structure files: finding, reading and writing them."""
