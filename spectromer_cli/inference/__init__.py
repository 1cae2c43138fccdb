"""From files to a table of predictions."""

from spectromer_cli.inference.frames import frame_meta, predict_frame

__all__ = ["frame_meta", "predict_frame"]
