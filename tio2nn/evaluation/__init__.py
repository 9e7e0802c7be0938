"""The accuracy of a potential: metrics, residuals, leakage and figures."""
