"""Video in and out: frames from files, cameras and network streams, and frames to files."""

from saccade.video.frame import Frame
from saccade.video.reading import VideoReader, read_video
from saccade.video.reconnect import Reconnect
from saccade.video.seeking import DecodeCost, VideoFrames
from saccade.video.writing import VideoWriter, write_video

__all__ = [
    "DecodeCost",
    "Frame",
    "Reconnect",
    "VideoFrames",
    "VideoReader",
    "VideoWriter",
    "read_video",
    "write_video",
]
