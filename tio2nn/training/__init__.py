"""From features and labels to fitted networks: the data of a fit, subnets, losses, the fit itself."""

import os

# TensorFlow reports at its import what hardware it looked for; a user can ask for that by setting the variable
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
