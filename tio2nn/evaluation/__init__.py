"""How good a potential is: metrics, residuals, leakage, figures."""
