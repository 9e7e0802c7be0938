"""Training: the data of a fit, networks, losses, schedules, the fit itself, the committee."""

import os

# TensorFlow prints notices about hardware on import; setting this variable brings them back
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
