//! The stand-in for FlashVSR's `infer_video.py`.
