"""Settings of every test process."""

import torch
from hypothesis import settings

torch.set_num_threads(1)  # two pools of threads on two cores spin each other to death
settings.register_profile("saccade", deadline=None)  # no test asserts a time
settings.load_profile("saccade")
