"""What the papers' methods are compared with, each for any trained network: compression, pruning, propagation, gates.

- `decompose`: spatial and weight SVD. `prune`, `harden`: L0 channel pruning. All give networks of plain convolutions.
- `keyframes`, `flow`: results or features of key frames, repeated or moved; functions on clips.
- `conditional`: CC-image, learned gates on the picture itself.
- `channel_gating`: CGNet, some of the input channels everywhere and the rest where that gives much. `resolution`:
  AR-Net for whole clips, the size of a clip's frames chosen by clip. `counted`: macs of gated and of pruned networks.
- `frame_average`, `one_shot`, `frame_resolution`: for whole videos, the mean over frames, OCSampler, and AR-Net itself.
  `skim`: what the policies of the last two see.
"""
