"""The network: subnets of the elements, the whitening before them, and the fit."""

import os

# TensorFlow reports at its import what hardware it looked for; a user can ask for that by setting the variable
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
