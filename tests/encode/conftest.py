"""Small models with random weights, saved as real ones are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Normalize,
    Pooling,
    Transformer,
)
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

WORDS = [
    'a',
    'blue',
    'cup',
    'green',
    'jam',
    'of',
    'red',
    'tea',
    '##s',
    '##pot',
]


@pytest.fixture(scope='session')
def text_model(tmp_path_factory) -> Path:
    """BERT of two layers, mean pooling, unit rows of 16 columns."""
    root = tmp_path_factory.mktemp('text_model')
    special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    vocab = root / 'vocab.txt'
    vocab.write_text('\n'.join(special + WORDS))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(special + WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        hidden_dropout_prob=0.5,
    )
    BertModel(config).save_pretrained(root / 'bert')
    BertTokenizerFast(vocab=str(vocab)).save_pretrained(root / 'bert')
    bert = Transformer(str(root / 'bert'))
    pooling = Pooling(bert.get_embedding_dimension(), 'mean')
    model = SentenceTransformer(modules=[bert, pooling, Normalize()])
    model.save(str(root / 'saved'))
    return root / 'saved'


def _save_vit(folder: Path, pooler: bool = True, **kwargs: Any) -> Path:
    torch.manual_seed(1)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        **kwargs,
    )
    ViTModel(config, add_pooling_layer=pooler).save_pretrained(folder)
    ViTImageProcessorPil(
        size={'height': 32, 'width': 32},
        image_mean=[0.1, 0.2, 0.3],
        image_std=[0.5, 0.6, 0.7],
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def save_vit() -> Callable[..., Path]:
    """Save a ViT of one layer and 16 columns; arguments are its settings."""
    return _save_vit


@pytest.fixture(scope='session')
def image_model(tmp_path_factory) -> Path:
    """The one with a pooler."""
    return _save_vit(tmp_path_factory.mktemp('image_model') / 'saved')
