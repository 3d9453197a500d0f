"""MiniALBERT Lab: distil a BERT into one transformer block that runs K times (arXiv 2210.06425)."""

__version__ = "0.1.0"
__all__ = [
    "MiniAlbertConfig",
    "MiniAlbertModel",
    "MiniAlbertForMaskedLM",
    "MiniAlbertForSequenceClassification",
    "MiniAlbertForTokenClassification",
]

try:  # importing the model registers it with the library's Auto classes
    from .configuration import MiniAlbertConfig
    from .modeling import (
        MiniAlbertForMaskedLM,
        MiniAlbertForSequenceClassification,
        MiniAlbertForTokenClassification,
        MiniAlbertModel,
    )
except ModuleNotFoundError as error:
    if (error.name or "").startswith(__name__):
        raise
    _missing = error.name

    def __getattr__(name):  # so that `lab.print_environment()` can still say what is missing
        if name in __all__:
            raise ImportError(
                f"minialbert.{name} needs {_missing}, which is not installed; "
                "run: pip install -c constraints.txt -e '.[all]'"
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
