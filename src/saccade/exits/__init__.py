"""FrameExit: look at a video's frames from coarse to fine, and stop when the answer is sure.

The model is `FrameExit`; `exit_losses` and `TwoStages` train it, an `ExitRule` says when to stop, `classify_video`
looks at one video frame by frame, `classify_videos` at many in full batches (`VideoVisits` are those of files), and
`decide` tries rules on what the model says of whole videos, `LiveExits` answers about windows of a live stream.
`with_native_backbone` puts the backbone on the native engine. `exit_macs` is the ledger.
"""

from saccade.exits.batching import Classified, classify_videos
from saccade.exits.gates import ExitGates
from saccade.exits.live import LiveAnswer, LiveExits
from saccade.exits.loss import (
    classification_losses,
    exit_losses,
    exit_thresholds,
    gate_loss,
    pseudo_labels,
)
from saccade.exits.macs import ExitMacs, exit_macs
from saccade.exits.model import FrameExit, Outputs, Stage
from saccade.exits.native import NativeBackbone, with_native_backbone
from saccade.exits.order import Order, frames_to_visit, visiting_order
from saccade.exits.pooling import (
    AttentionPooling,
    AveragePooling,
    LSTMPooling,
    MaxPooling,
    NoPooling,
    Pooling,
    make_pooling,
)
from saccade.exits.rules import Confidence, ExitRule, FixedBudget, LearnedGate, Oracle
from saccade.exits.run import Exits, classify_video, decide
from saccade.exits.seen import ExitState, Seen
from saccade.exits.stages import TwoStages
from saccade.exits.visits import VideoVisits

__all__ = [
    "AttentionPooling",
    "AveragePooling",
    "Classified",
    "Confidence",
    "ExitGates",
    "ExitMacs",
    "ExitRule",
    "ExitState",
    "Exits",
    "FixedBudget",
    "FrameExit",
    "LSTMPooling",
    "LearnedGate",
    "LiveAnswer",
    "LiveExits",
    "MaxPooling",
    "NativeBackbone",
    "NoPooling",
    "Oracle",
    "Order",
    "Outputs",
    "Pooling",
    "Seen",
    "Stage",
    "TwoStages",
    "VideoVisits",
    "classification_losses",
    "classify_video",
    "classify_videos",
    "decide",
    "exit_losses",
    "exit_macs",
    "exit_thresholds",
    "frames_to_visit",
    "gate_loss",
    "make_pooling",
    "pseudo_labels",
    "visiting_order",
    "with_native_backbone",
]
