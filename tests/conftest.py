"""One thread per process: results then do not depend on how many tests run beside each other."""

import torch

torch.set_num_threads(1)
