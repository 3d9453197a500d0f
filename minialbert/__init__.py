"""MiniALBERT Lab: distil a BERT into one block that runs K times (arXiv 2210.06425)."""

import transformers

from .configuration import MiniAlbertConfig
from .modeling import (
    MiniAlbertForMaskedLM,
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
    MiniAlbertModel,
)

__version__ = "0.1.0"
__all__ = [
    "MiniAlbertConfig",
    "MiniAlbertModel",
    "MiniAlbertForMaskedLM",
    "MiniAlbertForSequenceClassification",
    "MiniAlbertForTokenClassification",
]

# The library's Auto classes know the models, and a saved model carries its code.
transformers.AutoConfig.register(MiniAlbertConfig.model_type, MiniAlbertConfig)
MiniAlbertConfig.register_for_auto_class()
for _auto, _model in {
    "AutoModel": MiniAlbertModel,
    "AutoModelForMaskedLM": MiniAlbertForMaskedLM,
    "AutoModelForSequenceClassification": MiniAlbertForSequenceClassification,
    "AutoModelForTokenClassification": MiniAlbertForTokenClassification,
}.items():
    getattr(transformers, _auto).register(MiniAlbertConfig, _model)
    _model.register_for_auto_class(_auto)
