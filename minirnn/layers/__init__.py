"""Layers, losses, optimizers, clipping, and the window into recurrent layers."""

from minirnn.layers.clip import ClipInfo, clip_grad_norm, clip_grad_value
from minirnn.layers.dropout import Dropout
from minirnn.layers.embedding import Embedding
from minirnn.layers.layernorm import LayerNorm
from minirnn.layers.linear import Linear
from minirnn.layers.losses import cross_entropy, mse_loss
from minirnn.layers.module import Module
from minirnn.layers.named import GRU, LSTM, RNN
from minirnn.layers.optim import SGD, Adagrad, Adam, AdamW, RMSprop
from minirnn.layers.recurrent import Recurrent
from minirnn.layers.reference import use_reference
from minirnn.layers.sequential import Sequential
from minirnn.layers.spatial import SpatialLSTM
from minirnn.layers.watch import watch

__all__ = [
    "GRU", "LSTM", "RNN", "SGD", "Adagrad", "Adam", "AdamW", "ClipInfo", "Dropout", "Embedding",
    "LayerNorm", "Linear", "Module", "RMSprop", "Recurrent", "Sequential", "SpatialLSTM",
    "clip_grad_norm", "clip_grad_value", "cross_entropy", "mse_loss", "use_reference",
    "watch",
]  # fmt: skip
