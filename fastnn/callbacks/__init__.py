"""Callbacks: what happens beside the training, with Keras 3's hooks, names and arguments."""

from fastnn.callbacks.base import Callback, CallbackList, LambdaCallback
from fastnn.callbacks.files import CSVLogger, ModelCheckpoint
from fastnn.callbacks.history import History
from fastnn.callbacks.progress import ProgressBar
from fastnn.callbacks.rates import LearningRateScheduler, ReduceLROnPlateau
from fastnn.callbacks.stopping import EarlyStopping, TerminateOnNaN

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgressBar",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]
