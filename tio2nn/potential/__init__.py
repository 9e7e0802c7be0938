"""The potential: what a fit leaves behind, without the libraries that fitted it."""
